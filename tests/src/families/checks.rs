//! What is asked of an engine about a checkpoint. Each check gives the largest deviation from the
//! golden values, or what is wrong.

use super::compare::{Deviation, deviation, logits};
use super::run::{Runner, Stage, Step, last_row};
use super::{Case, Golden, Kind, checkpoint};
use exo_models::Model;
use exo_protocol::engine::EngineFailure;
use std::path::Path;

/// What a check came to.
pub type Outcome = Result<Deviation, String>;

fn said(failure: EngineFailure) -> String {
    format!("{:?}: {failure}", failure.kind)
}

/// A new engine with a model.
fn runner(kind: Kind, model: &Path) -> Result<Runner, String> {
    let path = model.to_owned();
    Ok(Runner::new(kind, depth(model)?, move || Model::open(&path)))
}

/// Layers of a model.
fn depth(model: &Path) -> Result<u32, String> {
    let model = Model::open(model).map_err(|error| error.to_string())?;
    Ok(model.config().layers)
}

/// A request that says what the golden case says, from `position` on and in pieces that end at
/// `cuts`; all that lies before is cached. Every choice from the end of the prompt on is compared.
fn tell(
    (runner, allowed): (&mut Runner, f32),
    stages: &[Stage],
    case: &Case,
    request: &str,
    position: usize,
    cuts: &[usize],
) -> Outcome {
    let text = case.text();
    let prompt = case.prompt.len();
    // After the prompt every token comes alone.
    let singles = prompt..=text.len();
    let ends = cuts.iter().copied().chain(singles);
    let mut worst = Deviation::default();
    let mut start = position;
    for end in ends.filter(|end| *end > position) {
        let sample = end >= prompt;
        let step = Step {
            request,
            position: start as u32,
            tokens: &text[start..end],
            sample,
        };
        let (token, between) = runner.step(stages, &step).map_err(said)?;
        if end == prompt && start == 0 {
            worst.merge(layers(allowed, stages, case, &between)?);
        }
        if let Some(token) = token {
            let chosen = end - prompt;
            let at = format!("{} +{chosen}", case.name);
            let golden = (&case.logits[chosen][..], case.tokens[chosen]);
            worst.merge(logits(allowed, (&runner.logits(), token), golden, at)?);
        } else {
            assert!(!sample, "a token is chosen when one is asked for");
        }
        start = end;
    }
    Ok(worst)
}

/// The hidden states between stages: the first that is off says which layer computes wrongly.
fn layers(
    allowed: f32,
    stages: &[Stage],
    case: &Case,
    between: &[exo_protocol::Tensor],
) -> Outcome {
    let mut worst = Deviation::default();
    for (stage, tensor) in stages.iter().zip(between) {
        let at = format!("{} after layer {}", case.name, stage.end);
        let found = deviation(&last_row(tensor), &case.hidden[stage.end as usize], at)?;
        if found.relative.is_nan() || found.relative > allowed {
            let Deviation { relative, at } = found;
            return Err(format!("{at}: the hidden state is off by {relative:.1e}"));
        }
        worst.merge(found);
    }
    Ok(worst)
}

/// In one piece: both prompts, and eight tokens after each.
pub fn whole(kind: Kind, name: &str) -> Outcome {
    whole_of(kind, name, &checkpoint(name))
}

/// The same of another file of the same model.
pub fn whole_of(kind: Kind, name: &str, model: &Path) -> Outcome {
    let golden = Golden::of(name);
    let allowed = kind.tolerance(name);
    let mut runner = runner(kind, model)?;
    let stages = runner.load_cut(&[]).map_err(said)?;
    let mut worst = Deviation::default();
    for case in [&golden.short, &golden.long] {
        worst.merge(tell(
            (&mut runner, allowed),
            &stages,
            case,
            case.name,
            0,
            &[],
        )?);
    }
    Ok(worst)
}

/// Cut at every layer boundary: in two at each, and into single layers.
pub fn split(kind: Kind, name: &str) -> Outcome {
    let golden = Golden::of(name);
    let allowed = kind.tolerance(name);
    let layers = depth(&checkpoint(name))?;
    // Single layers first: if one computes wrongly, it is named.
    let mut cuts: Vec<Vec<u32>> = vec![(1..layers).collect(), Vec::new()];
    cuts.extend((1..layers).map(|cut| vec![cut]));
    let mut same = None;
    let mut worst = Deviation::default();
    for (n, cut) in cuts.iter().enumerate() {
        let mut runner = runner(kind, &checkpoint(name))?;
        let stages = runner.load_cut(cut).map_err(said)?;
        let here = |what: String| format!("cut before {cut:?}: {what}");
        let told = tell(
            (&mut runner, allowed),
            &stages,
            &golden.short,
            "cut",
            0,
            &[],
        )
        .map_err(here)?;
        worst.merge(told);
        let logits = runner.logits();
        if kind.exact() && *same.get_or_insert_with(|| logits.clone()) != logits {
            return Err(here(
                "logits are not the same bits as cut elsewhere".to_owned(),
            ));
        }
        if n == 0 {
            let told = tell(
                (&mut runner, allowed),
                &stages,
                &golden.long,
                "long",
                0,
                &[],
            )
            .map_err(here)?;
            worst.merge(told);
        }
    }
    Ok(worst)
}

/// The prompt in pieces, two requests by turns, and a cache that is taken back to earlier positions,
/// inside the prompt and behind it, after something else was computed there.
pub fn resumed(kind: Kind, name: &str) -> Outcome {
    let golden = Golden::of(name);
    let allowed = kind.tolerance(name);
    let mut runner = runner(kind, &checkpoint(name))?;
    let cut = runner.layers() / 2;
    let stages = runner.load_cut(&[cut]).map_err(said)?;
    let mut worst = Deviation::default();
    let (short, long) = (&golden.short, &golden.long);
    let here = |words: &str| {
        let words = words.to_owned();
        move |what: String| format!("{words}: {what}")
    };

    let pieces: [(&Case, &str, &[usize]); 3] = [
        (short, "in pieces", &[1, 2, 9, 17, 18, 26]),
        (long, "in long pieces", &[511, 512, 640]),
        (short, "token by token", &(1..40).collect::<Vec<_>>()),
    ];
    for (case, words, cuts) in pieces {
        let told =
            tell((&mut runner, allowed), &stages, case, words, 0, cuts).map_err(here(words))?;
        worst.merge(told);
    }

    // Other tokens than the right ones, and then back: what was computed for them is forgotten.
    let back: [(&Case, &str, &[usize]); 2] = [
        (short, "in pieces", &[45, 40, 39, 20, 0]),
        (long, "in long pieces", &[706, 699, 640]),
    ];
    for (case, request, positions) in back {
        for &position in positions {
            let wrong = Step {
                request,
                position: position as u32,
                tokens: &[9, 8, 7, 6, 5, 4, 3, 2, 1],
                sample: false,
            };
            runner.step(&stages, &wrong).map_err(said)?;
            let words = format!("back to {position} of {}", case.name);
            let told = tell(
                (&mut runner, allowed),
                &stages,
                case,
                request,
                position,
                &[],
            );
            worst.merge(told.map_err(here(&words))?);
        }
    }

    // Freed, a request is as new as one that never was.
    runner.free("in pieces");
    let told = tell((&mut runner, allowed), &stages, short, "in pieces", 0, &[5]);
    worst.merge(told.map_err(here("freed and told anew"))?);
    Ok(worst)
}

/// Several requests of different lengths, of which the engine is told at once.
pub fn together(kind: Kind, name: &str) -> Outcome {
    let golden = Golden::of(name);
    let mut runner = runner(kind, &checkpoint(name))?;
    let stages = runner.load_cut(&[]).map_err(said)?;
    let stage = &stages[0];
    let cases = [
        (&golden.short, "a"),
        (&golden.long, "b"),
        (&golden.short, "c"),
    ];
    // `c` lags three tokens behind `a`, so that no two are at the same position.
    let lag = |request: &str| if request == "c" { 3 } else { 0 };
    for (case, request) in cases {
        let tokens = &case.prompt[..case.prompt.len() - lag(request)];
        let step = Step {
            request,
            position: 0,
            tokens,
            sample: false,
        };
        runner.step(&stages, &step).map_err(said)?;
    }
    let texts = cases.map(|(case, _)| case.text());
    for n in 0..golden.short.tokens.len() - 1 {
        let steps: Vec<_> = cases
            .iter()
            .zip(&texts)
            .map(|((case, request), text)| {
                let position = case.prompt.len() - lag(request) + n;
                Step {
                    request,
                    position: position as u32,
                    tokens: &text[position..position + 1],
                    sample: true,
                }
            })
            .collect();
        let chosen = runner.step_together(stage, &steps).map_err(said)?;
        for ((case, request), token) in cases.iter().zip(chosen) {
            let Some(at) = (n + 1).checked_sub(lag(request)) else {
                continue;
            };
            let (expected, logits) = (case.tokens[at], &case.logits[at]);
            let near = 2.0 * kind.tolerance(name) * super::largest(logits);
            if token != expected && super::compare::lead(logits) > near {
                return Err(format!(
                    "{request} +{at}: token {token} instead of {expected}"
                ));
            }
        }
    }
    Ok(Deviation::default())
}
