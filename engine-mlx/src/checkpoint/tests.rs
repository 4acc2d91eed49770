use super::*;

fn name(first: u32, last: u32, iteration: u32) -> CheckpointName {
    CheckpointName {
        iteration,
        first,
        last,
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    let written = name(0, 14, 200);
    assert_eq!(written.to_string(), "0-14-200.safetensors");
    assert_eq!("0-14-200.safetensors".parse(), Ok(written));
    for other in [
        "",
        "0-14-200",
        "0-14.safetensors",
        "0-14-200-1.safetensors",
        "00-14-200.safetensors",
        "+0-14-200.safetensors",
        "14-0-200.safetensors",
        "0-14-4294967296.safetensors",
        "x-14-200.safetensors",
        "0-14-200.safetensors.new",
    ] {
        let error = other.parse::<CheckpointName>().unwrap_err();
        assert!(
            error.to_string().contains("is no checkpoint's name"),
            "{error}"
        );
    }
}

#[test]
fn peers_do_not_choose_folders() {
    for good in ["a", "stories-20261128-160501", "A_b.c", &"x".repeat(64)] {
        assert!(is_job_name(good), "{good}");
    }
    for bad in [
        "",
        ".",
        "..",
        ".a",
        "a/b",
        "../a",
        "a\\b",
        "a b",
        "ä",
        "a\0",
        &"x".repeat(65),
    ] {
        assert!(!is_job_name(bad), "{bad}");
    }
}

#[test]
fn what_is_there_and_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in [
        "0-3-20.safetensors",
        "4-7-10.safetensors",
        "0-3-10.safetensors",
        "job.json",
        "0-3-30.safetensors.new",
    ] {
        std::fs::write(folder.path().join(file), "").expect("it is written");
    }
    let found = list(folder.path()).expect("it can be read");
    assert_eq!(found, [name(0, 3, 10), name(4, 7, 10), name(0, 3, 20)]);
    assert_eq!(iterations(&found), [10, 20]);
    assert!(missing(&found, 10, 0..8).is_empty());
    assert_eq!(missing(&found, 20, 2..6), [4, 5]);
    assert_eq!(missing(&found, 30, 2..4), [2, 3]);
    let nowhere = list(&folder.path().join("nowhere")).expect("nothing is there");
    assert!(nowhere.is_empty());
}

#[test]
fn a_file_that_lies_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("0-0-1.safetensors");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("it is written");
        CheckpointFile::open(&path)
    };
    let with_header = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        let header = format!(
            r#"{{"a": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": {offsets}}}}}"#
        );
        with_header(&header, 16)
    };
    for bytes in [
        b"".to_vec(),
        b"1234567".to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
        with_header("", 0),
        with_header("[]", 0),
        with_header("{\"a\": 1}", 16),
        tensor("F16", "[4]", "[0, 8]"),
        tensor("F32", "[4]", "[0, 8]"),
        tensor("F32", "[4]", "[16, 32]"),
        tensor("F32", "[4]", "[16, 0]"),
        tensor("F32", "[-4]", "[0, 16]"),
        tensor("F32", "[4611686018427387904, 4]", "[0, 0]"),
        tensor("F32", "[4]", "[0, 18446744073709551615]"),
    ] {
        let error = open(&bytes).expect_err("it cannot be");
        assert!(
            error.to_string().contains("0-0-1.safetensors is damaged"),
            "{error}"
        );
    }
    let mut good = open(&tensor("F32", "[2, 2]", "[0, 16]")).expect("it can be");
    assert_eq!(good.shape("a"), Some(vec![2, 2]));
    assert_eq!(good.read("a", &[2, 2]).expect("it is there"), [0; 16]);
    for (name, shape) in [("a", &[4][..]), ("a", &[2, -2]), ("b", &[2, 2])] {
        good.read(name, shape).expect_err("there is no such tensor");
    }
    good.text("model").expect_err("it says nothing of itself");
}
