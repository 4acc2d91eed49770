use super::*;
use crate::cli::{Parsed, parse};

fn args(line: &str) -> Args {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match parse(&words) {
        Ok(Parsed::Args(args)) => *args,
        other => panic!("{other:?}"),
    }
}

fn recipe(line: &str) -> Recipe {
    Recipe::default().with(&args(line)).unwrap()
}

fn refused(line: &str) -> String {
    Recipe::default().with(&args(line)).unwrap_err().0
}

#[test]
fn flags_change_what_is_usual() {
    assert_eq!(recipe(""), Recipe::default());
    let lora = recipe("--lora-rank 4 --lora-layers 0 --optimizer sgd --seed 9 --mask-prompt");
    let wanted = Trainable::Lora {
        rank: 4,
        scale: 20.0,
        last_layers: 0,
    };
    assert_eq!((lora.trainable, lora.seed), (wanted, 9));
    assert_eq!((lora.optimizer, lora.mask_prompt), (Optimizer::Sgd, true));
    let full = recipe("--full-layers 2 --weight-decay 0.5 --batch-size 1");
    assert_eq!(full.trainable, Trainable::Full { last_layers: 2 });
    assert_eq!(full.optimizer, Optimizer::AdamW { weight_decay: 0.5 });
}

#[test]
fn what_cannot_be_is_told() {
    for (line, wanted) in [
        (
            "--full-layers 2 --lora-rank 4",
            "--lora-rank is about adapters",
        ),
        ("--lora-rank 0", "--lora-rank must be at least 1"),
        (
            "--lora-scale 0",
            "--lora-scale must be a number other than 0",
        ),
        (
            "--lora-scale inf",
            "--lora-scale must be a number other than 0",
        ),
        ("--batch-size 0", "--batch-size must be from 1 to"),
        ("--max-seq-length 1", "--max-seq-length must be at least 2"),
        ("--learning-rate 0", "--learning-rate must be above 0"),
        ("--learning-rate NaN", "--learning-rate must be above 0"),
        (
            "--optimizer sgd --weight-decay 0.1",
            "--weight-decay goes with adamw",
        ),
        ("--weight-decay 1", "--weight-decay must be from 0 to 1"),
    ] {
        let told = refused(line);
        assert!(told.contains(wanted), "{line}: {told}");
    }
}

#[test]
fn a_job_keeps_its_recipe() {
    for line in [
        "",
        "--full-layers 3 --optimizer sgd --seed 18446744073709551615",
        "--lora-scale 0.1 --learning-rate 0.0003 --mask-prompt --weight-decay 0",
    ] {
        let recipe = recipe(line);
        let kept = recipe.to_json().to_string();
        let read: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(Recipe::from_json(&read), Ok(recipe), "{kept}");
    }
    assert!(
        recipe("--lora-scale 0.1")
            .to_json()
            .to_string()
            .contains(":0.1,")
    );
    let mut damaged = Recipe::default().to_json();
    damaged["seed"] = json!(-1);
    assert_eq!(Recipe::from_json(&damaged), Err("seed"));
    assert_eq!(Recipe::from_json(&json!({})), Err("trainable"));
}

#[test]
fn a_job_goes_on_as_it_began() {
    let begun = recipe("--lora-rank 4 --seed 5");
    let same = begun
        .resumed(&args("--lora-rank 4 --learning-rate 0.5"))
        .unwrap();
    assert_eq!(same.learning_rate, 0.5);
    assert_eq!(same.trainable, begun.trainable);
    for (line, flag) in [
        ("--seed 6", "--seed"),
        ("--full-layers 1", "what is trained"),
        ("--batch-size 1", "--batch-size"),
        ("--optimizer sgd", "--optimizer"),
    ] {
        let told = begun.resumed(&args(line)).unwrap_err().0;
        assert!(told.starts_with(flag), "{line}: {told}");
    }
}
