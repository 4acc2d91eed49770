use super::*;

fn job() -> JobFile {
    JobFile {
        model: "stories".to_owned(),
        fingerprint: 0x00ab_cdef_0123_4567,
        recipe: Recipe::default(),
        complete: vec![10, 20],
    }
}

#[test]
fn a_job_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a");
    assert_eq!(JobFile::read(&folder).unwrap(), None);
    let mut job = job();
    job.write(&folder).unwrap();
    assert_eq!(JobFile::read(&folder).unwrap().as_ref(), Some(&job));
    job.completed(30);
    job.completed(20);
    assert_eq!(job.complete, [10, 20, 30]);
    job.write(&folder).unwrap();
    assert_eq!(JobFile::read(&folder).unwrap(), Some(job));
    assert!(!folder.join("job.json.new").exists());
}

#[test]
fn damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (text, wanted) in [
        ("{", "job.json is damaged: EOF"),
        ("{\"model\": \"m\"}", "`complete`"),
        ("{\"complete\": [], \"model\": 7}", "`model`"),
        (
            "{\"complete\": [], \"model\": \"m\", \"fingerprint\": \"x\"}",
            "`fingerprint`",
        ),
        (
            "{\"complete\": [-1], \"model\": \"m\", \"fingerprint\": \"0\"}",
            "`trainable`",
        ),
    ] {
        fs::write(dir.path().join(FILE), text).unwrap();
        let told = JobFile::read(dir.path()).unwrap_err().to_string();
        assert!(told.contains(wanted), "{text}: {told}");
    }
}

#[test]
fn jobs_are_named_in_several_ways() {
    let dir = Path::new("/jobs");
    let reference = |text: &str| Reference::parse(text, dir).unwrap();
    let wanted = |dir: &str, iteration| Reference {
        dir: dir.into(),
        name: "a-1".to_owned(),
        iteration,
    };
    assert_eq!(reference("a-1"), wanted("/jobs", None));
    assert_eq!(reference("a-1:20"), wanted("/jobs", Some(20)));
    assert_eq!(reference("here/a-1:20"), wanted("here", Some(20)));
    assert_eq!(reference("./a-1/"), wanted(".", None));
    assert_eq!(reference("a-1:20").folder(), Path::new("/jobs/a-1"));
    for bad in ["", "..", "a:b", "/", "a b", "x/..", ":3"] {
        let error = Reference::parse(bad, dir).unwrap_err();
        assert!(matches!(error, JobFileError::Name(_)), "{bad}: {error}");
    }
}

#[test]
fn a_job_goes_on_from_the_newest_checkpoint_that_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a");
    let reference = Reference::parse("a", dir.path()).unwrap();
    let told = reference.newest(None, 8).unwrap_err().to_string();
    assert!(
        told.starts_with("there is no checkpoint of all layers"),
        "{told}"
    );
    fs::create_dir(&folder).unwrap();
    for name in ["0-3-10", "4-7-10", "0-3-20"] {
        fs::write(folder.join(format!("{name}.safetensors")), "").unwrap();
    }
    assert_eq!(reference.newest(None, 8).unwrap(), 10);
    assert_eq!(reference.newest(Some(&job()), 8).unwrap(), 20);
    let named = Reference::parse("a:20", dir.path()).unwrap();
    assert_eq!(named.newest(None, 8).unwrap(), 20);
    let told = reference.newest(None, 9).unwrap_err().to_string();
    assert!(
        told.contains("of steps 10, 20 some layers are here"),
        "{told}"
    );
}

#[test]
fn a_new_job_has_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let folder = begin(&dir.path().join("jobs"), "a").unwrap();
    assert!(folder.is_dir());
    let again = begin(&dir.path().join("jobs"), "a").unwrap_err();
    assert!(
        again.to_string().contains("choose another --job-name"),
        "{again}"
    );
    assert!(matches!(checked("../b"), Err(JobFileError::Name(_))));
    let name = usual_name("org/Model.4 bit", 1_795_881_901);
    assert_eq!(name, "org-Model-4-bit-20261128-160501");
    assert_eq!(checked(&name).unwrap(), name);
    let long = usual_name(&"ä".repeat(100), 0);
    assert_eq!(checked(&long).unwrap(), "-19700101-000000");
}
