//! What ends well, whatever happens on the way.

use super::{seen::Seen, *};
use crate::{Catalog, Model};

const WEIGHTS: &str = "model.safetensors";

fn published(setup: &Setup) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), true);
    let bytes = fs::read(folder.path().join(WEIGHTS)).unwrap();
    assert!(bytes.len() > 20_000, "cuts below are inside it");
    assert!(setup.cached(WEIGHTS).is_none_or(|cached| cached == bytes));
    bytes
}

#[test]
fn a_model_comes_whole_and_stays() {
    let setup = Setup::new();
    let pulled = setup.pull().unwrap();
    assert_eq!(
        (pulled.commit.as_str(), pulled.fetched),
        (server::COMMIT, pulled.bytes)
    );
    let model = Model::open(&pulled.path).unwrap();
    model.weights(0..LAYERS).unwrap();
    model.tokenizer().unwrap();
    for asked in setup.server.asked() {
        let what = &asked.line;
        assert!(
            what.contains("/api/")
                || asked.encoding.as_deref() == Some("identity")
                || what.contains("/cdn/"),
            "{what}"
        );
    }

    // Nothing comes twice, and without the network it is still here.
    let again = setup.pull().unwrap();
    assert_eq!((again.bytes, again.fetched), (pulled.bytes, 0));
    assert_eq!(setup.server.asked().len(), 1);
    let offline = Hub::new(HubOptions {
        offline: true,
        ..setup.options()
    });
    let name = HubName::parse(REPO).unwrap();
    let here = offline.pull(&name, None, &(), &Cancel::default()).unwrap();
    assert_eq!(here.path, pulled.path);
    assert!(setup.server.asked().is_empty());

    // The catalogue finds it where Python's tools would.
    let catalog = Catalog::with_places(Vec::new(), None, Some(setup.cache.path().to_owned()));
    assert_eq!(catalog.resolve(REPO).unwrap().config().layers, LAYERS);
}

#[test]
fn the_cache_is_laid_out_as_pythons() {
    let setup = Setup::new();
    setup.pull().unwrap();
    let bytes = published(&setup);
    let repo = setup.cache.path().join("models--me--tiny");
    let blob = repo.join("blobs").join(server::etag(WEIGHTS, &bytes));
    assert_eq!(fs::read(&blob).unwrap(), bytes);
    let main = fs::read_to_string(repo.join("refs/main")).unwrap();
    assert_eq!(main, server::COMMIT);
    let link = repo.join("snapshots").join(main).join(WEIGHTS);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&link).unwrap(),
        Path::new("../../blobs").join(server::etag(WEIGHTS, &bytes))
    );
    assert_eq!(fs::read(link).unwrap(), bytes);
    let tag = Etag::parse(&server::etag(WEIGHTS, &bytes)).unwrap();
    let lock = setup
        .cache
        .path()
        .join(".locks/models--me--tiny")
        .join(format!("{}.lock", tag.as_str()));
    assert!(lock.is_file());
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    for fault in [Fault::Cut, Fault::CutUnannounced] {
        for at in [0, 1, 4_000, 19_999] {
            let setup = Setup::new();
            // In one process: the next attempt asks for the rest.
            setup.server.fault(On::Body, Fault::Status(200, "", ""), 0);
            let beside = setup.server.asked().len();
            assert_eq!(beside, 0);
            cut_weights(&setup, fault(at), 2);
            let mut ranges = setup.ranges();
            assert_eq!(ranges.remove(0), None);
            for (nth, range) in ranges.iter().enumerate() {
                let from = at * (nth + 1);
                let wanted = (from > 0).then(|| format!("bytes={from}-"));
                assert_eq!(*range, wanted, "{at}");
            }
            published(&setup);
        }
    }
}

/// Lets all but the weights come, and the weights so many times with a fault.
fn cut_weights(setup: &Setup, fault: Fault, times: usize) {
    // Files beside the weights come first, and have nothing to do with it.
    let name = HubName::parse(REPO).unwrap();
    let only_beside = Seen::default();
    let cancel = Cancel::default();
    only_beside.stop_before(WEIGHTS, cancel.clone());
    let stopped = setup.hub().pull(&name, None, &only_beside, &cancel);
    assert!(matches!(stopped, Err(HubError::Cancelled)), "{stopped:?}");
    setup.server.asked();
    setup.server.fault(On::Body, fault, times);
    setup.pull().unwrap();
}

#[test]
fn what_another_process_began_is_gone_on_with() {
    let setup = Setup::new();
    let bytes = published(&setup);
    let folder = RepoFolder::new(setup.cache.path(), REPO);
    let tag = Etag::parse(&server::etag(WEIGHTS, &bytes)).unwrap();
    fs::create_dir_all(folder.blobs()).unwrap();
    fs::write(folder.incomplete(&tag), &bytes[..12_345]).unwrap();
    let pulled = setup.pull().unwrap();
    assert_eq!(setup.ranges(), [Some("bytes=12345-".to_owned())]);
    assert_eq!(pulled.bytes - pulled.fetched, 12_345);
    published(&setup);
    assert!(
        setup
            .blobs()
            .iter()
            .all(|name| !name.contains("incomplete"))
    );
}

#[test]
fn what_another_process_left_whole_or_wrong_is_checked() {
    for (left, ranges) in [
        // Whole, but not named yet: nothing has to come.
        (published(&Setup::new()), vec![]),
        // Too long, or other bytes: from the beginning.
        (vec![b'x'; 1 << 20], vec![None]),
        (vec![b'x'; 100], vec![Some("bytes=100-".to_owned()), None]),
    ] {
        let setup = Setup::new();
        let bytes = published(&setup);
        let folder = RepoFolder::new(setup.cache.path(), REPO);
        let tag = Etag::parse(&server::etag(WEIGHTS, &bytes)).unwrap();
        fs::create_dir_all(folder.blobs()).unwrap();
        fs::write(folder.incomplete(&tag), left).unwrap();
        setup.pull().unwrap();
        assert_eq!(setup.ranges(), ranges);
        assert_eq!(setup.cached(WEIGHTS).unwrap(), bytes);
    }
}

#[test]
fn a_server_that_ignores_ranges_sends_all_anew() {
    let setup = Setup::new();
    let bytes = published(&setup);
    let folder = RepoFolder::new(setup.cache.path(), REPO);
    let tag = Etag::parse(&server::etag(WEIGHTS, &bytes)).unwrap();
    fs::create_dir_all(folder.blobs()).unwrap();
    fs::write(folder.incomplete(&tag), &bytes[..5_000]).unwrap();
    setup.server.fault(On::Body, Fault::IgnoreRange, usize::MAX);
    setup.pull().unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), bytes);
}

#[test]
fn a_hiccup_costs_an_attempt() {
    for fault in [
        Fault::Status(503, "", "busy"),
        Fault::Status(500, "", ""),
        Fault::Status(429, "Retry-After: 0", "too many"),
        Fault::Stall(300),
        Fault::Damage,
        Fault::Longer,
        Fault::Shorter(100),
    ] {
        let setup = Setup::new();
        let bytes = published(&setup);
        setup.server.fault(On::Body, fault.clone(), 1);
        let name = HubName::parse(REPO).unwrap();
        let seen = Seen::default();
        setup
            .hub()
            .pull(&name, None, &seen, &Cancel::default())
            .unwrap();
        assert_eq!(setup.cached(WEIGHTS).unwrap(), bytes, "{fault:?}");
        let troubles = seen.troubles();
        assert_eq!(troubles.len(), 1, "{fault:?}: {troubles:?}");
        assert!(
            troubles[0].contains("; trying again in 0.0 s"),
            "{troubles:?}"
        );
    }
    let setup = Setup::new();
    setup.server.fault(On::List, Fault::Status(502, "", ""), 1);
    setup.server.fault(On::Head, Fault::Status(504, "", ""), 1);
    setup.pull().unwrap();
}

#[test]
fn a_retry_after_a_failed_resume_is_no_doubled_file() {
    let setup = Setup::new();
    let bytes = published(&setup);
    cut_weights(&setup, Fault::Cut(6_000), 1);
    assert_eq!(setup.cached(WEIGHTS).unwrap(), bytes);
    let setup = Setup::new();
    setup.server.fault(On::Body, Fault::Cut(100), 1);
    setup.server.fault(On::Body, Fault::Status(503, "", ""), 1);
    setup.server.fault(On::Body, Fault::IgnoreRange, 1);
    setup.pull().unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), bytes);
}

#[test]
fn layers_need_only_their_files() {
    let setup = Setup::sharded();
    let name = HubName::parse(REPO).unwrap();
    let hub = setup.hub();
    let pulled = hub
        .pull(&name, Some(1..2), &(), &Cancel::default())
        .unwrap();
    let here = |file: &str| setup.cached(file).is_some();
    // Each layer is in a file of its own, after the one of the embedding.
    assert!(!here("model-0.safetensors") && !here("model-1.safetensors"));
    assert!(here("model-2.safetensors") && here("tokenizer.json"));
    Model::open(&pulled.path).unwrap().weights(1..2).unwrap();
    assert!(hub.here(&name, Some(1..2)).is_some());
    assert!(hub.here(&name, None).is_none());
    let error = hub.pull(&name, Some(0..LAYERS + 1), &(), &Cancel::default());
    assert!(matches!(error, Err(HubError::Model(_))), "{error:?}");
    // The rest comes when it is needed.
    let whole = setup.pull().unwrap();
    Model::open(&whole.path)
        .unwrap()
        .weights(0..LAYERS)
        .unwrap();
}

#[test]
fn one_of_several_gguf_files_is_chosen() {
    let setup = Setup::empty();
    let file = GgufFile::tiny().bytes().0;
    setup.server.put(REPO, "tiny-Q8_0.gguf", file.clone());
    setup
        .server
        .put(REPO, "tiny-Q4_0.gguf", b"another one".to_vec());
    let pulled = setup.pull_as("me/tiny:q8_0").unwrap();
    assert!(pulled.path.ends_with("tiny-Q8_0.gguf"));
    assert_eq!(fs::read(&pulled.path).unwrap(), file);
    assert_eq!(setup.cached("tiny-Q4_0.gguf"), None);
    let name = HubName::parse("me/tiny:q8_0").unwrap();
    assert_eq!(setup.hub().here(&name, None).unwrap().path, pulled.path);
}

#[test]
fn two_at_once_fetch_every_file_once() {
    let setup = Setup::sharded();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let options = HubOptions {
                    parallel: 4,
                    ..setup.options()
                };
                let name = HubName::parse(REPO).unwrap();
                let pulled = Hub::new(options).pull(&name, None, &(), &Cancel::default());
                Model::open(&pulled.unwrap().path)
                    .unwrap()
                    .weights(0..LAYERS)
                    .unwrap();
            });
        }
    });
    let files = setup.blobs().iter().filter(|name| name.len() == 64).count();
    assert_eq!(setup.ranges(), vec![None; files]);
}

#[test]
fn a_repository_that_moved_is_found() {
    let setup = Setup::new();
    setup.server.rename("me/old", REPO);
    let pulled = setup.pull_as("me/old").unwrap();
    Model::open(&pulled.path)
        .unwrap()
        .weights(0..LAYERS)
        .unwrap();
}

#[test]
fn a_token_goes_to_the_hub_and_no_further() {
    let setup = Setup::new();
    setup.server.gate(REPO);
    let options = HubOptions {
        token: Some(server::TOKEN.to_owned()),
        ..setup.options()
    };
    let name = HubName::parse(REPO).unwrap();
    Hub::new(options)
        .pull(&name, None, &(), &Cancel::default())
        .unwrap();
    for asked in setup.server.asked() {
        let elsewhere = asked.line.contains("/cdn/");
        assert_eq!(asked.authorization.is_none(), elsewhere, "{}", asked.line);
    }
}

#[test]
fn progress_ends_at_all_of_it() {
    let setup = Setup::new();
    let seen = Seen::default();
    let name = HubName::parse(REPO).unwrap();
    let pulled = setup
        .hub()
        .pull(&name, None, &seen, &Cancel::default())
        .unwrap();
    let report = seen.last();
    assert_eq!((report.done, report.total), (pulled.bytes, pulled.bytes));
    assert!(
        report
            .files
            .iter()
            .all(|file| file.done == file.total && !file.active)
    );
    assert!(report.files.iter().any(|file| file.name == WEIGHTS));
}
