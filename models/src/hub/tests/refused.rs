//! What cannot end well ends with what is to be done, and leaves no broken file with a name.

use std::io::{Read, Write};

use super::*;

const WEIGHTS: &str = "model.safetensors";

#[test]
fn what_stays_wrong_is_told_and_never_named() {
    for (on, fault, wanted) in [
        (On::Body, Fault::Damage, "is damaged: its hash is "),
        (On::Body, Fault::Longer, "has another length than announced"),
        (
            On::Body,
            Fault::Shorter(23),
            "has another length than announced",
        ),
        (
            On::Body,
            Fault::Status(403, "", "<html>no</html>"),
            "is forbidden (403)",
        ),
        (
            On::Body,
            Fault::Status(500, "", "out of order"),
            "answered 500: out of order",
        ),
        (On::Body, Fault::Page, "has another length than announced"),
        (On::Body, Fault::Cut(0), "broke off after 0 of "),
        (
            On::Head,
            Fault::Page,
            "expected the hash of the file (etag); is HF_ENDPOINT a model hub?",
        ),
        (
            On::Head,
            Fault::Status(404, "X-Error-Code: EntryNotFound", ""),
            "me/tiny has no file ",
        ),
        (
            On::List,
            Fault::Page,
            "expected a commit and the files of a repository",
        ),
        (
            On::List,
            Fault::Status(404, "", ""),
            "has no repository me/tiny",
        ),
    ] {
        let setup = Setup::new();
        setup.server.fault(on, fault.clone(), usize::MAX);
        let told = setup.pull().unwrap_err().to_string();
        assert!(told.contains(wanted), "{fault:?}: {told}");
        assert!(!told.contains("<html>"), "{told}");
        let named = setup.blobs();
        assert!(
            named.iter().all(|name| name.ends_with(".incomplete")),
            "{fault:?}: {named:?}"
        );
        // Nobody takes half of it for the model.
        assert!(setup.hub().path(&HubName::parse(REPO).unwrap()).is_none());
        // And when the server is well again, nothing of that is left.
        setup.server.heal();
        setup.pull().unwrap();
        assert!(setup.cached(WEIGHTS).is_some());
    }
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let setup = Setup::new();
    setup.server.fault(On::Body, Fault::Cut(10), 1);
    setup.server.fault(On::Body, Fault::WrongRange, usize::MAX);
    let told = setup.pull().unwrap_err().to_string();
    assert!(
        told.contains("expected the range that was asked for"),
        "{told}"
    );
}

#[test]
fn a_server_that_wants_rest_gets_it() {
    let setup = Setup::new();
    let fault = Fault::Status(429, "Retry-After: 9999", "slow down");
    setup.server.fault(On::List, fault, usize::MAX);
    let told = setup.pull().unwrap_err().to_string();
    assert!(
        told.ends_with("answered 429: slow down; try again in 9999 s"),
        "{told}"
    );
    assert_eq!(setup.server.asked().len(), 1);
}

#[test]
fn gated_and_private_repositories_say_what_to_do() {
    let setup = Setup::new();
    setup.server.gate(REPO);
    let told = setup.pull().unwrap_err().to_string();
    assert!(
        told.contains("me/tiny is gated: accept its licence at http://127.0.0.1:"),
        "{told}"
    );
    assert!(told.contains("then set HF_TOKEN"), "{told}");
    let with_token = |token: &str| {
        let options = HubOptions {
            token: Some(token.to_owned()),
            ..setup.options()
        };
        let name = HubName::parse("mlx-community/Llama-3.2-1B-Instruct-4bi").unwrap();
        let hub = Hub::new(options);
        hub.pull(&name, None, &(), &Cancel::default())
            .unwrap_err()
            .to_string()
    };
    // What is not there looks to strangers like what is private.
    let told = setup.pull_as("me/tinny").unwrap_err().to_string();
    assert!(
        told.contains("has no repository me/tinny, or does not show it"),
        "{told}"
    );
    assert!(told.ends_with("if it is private, set HF_TOKEN"), "{told}");
    let told = with_token(server::TOKEN);
    assert!(
        told.contains("did you mean mlx-community/Llama-3.2-1B-Instruct-4bit"),
        "{told}"
    );
    let told = with_token("hf_other");
    assert!(
        told.contains("is forbidden (401): Invalid username or password."),
        "{told}"
    );
}

#[test]
fn nothing_comes_when_downloads_are_off() {
    let setup = Setup::new();
    let options = HubOptions {
        offline: true,
        ..setup.options()
    };
    let name = HubName::parse(REPO).unwrap();
    let told = Hub::new(options).pull(&name, None, &(), &Cancel::default());
    let told = told.unwrap_err().to_string();
    assert!(
        told.starts_with("me/tiny is not on this machine, and downloads are switched off"),
        "{told}"
    );
    assert!(setup.server.asked().is_empty());
}

#[test]
fn nobody_there_is_told_with_what_may_help() {
    let setup = Setup::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let options = HubOptions {
        endpoint: format!("http://{address}"),
        attempts: 2,
        ..setup.options()
    };
    let name = HubName::parse(REPO).unwrap();
    let told = Hub::new(options).pull(&name, None, &(), &Cancel::default());
    let told = told.unwrap_err().to_string();
    assert!(
        told.starts_with(&format!("{address} cannot be reached: ")),
        "{told}"
    );
    assert!(told.contains("HTTPS_PROXY"), "{told}");
}

#[test]
fn a_server_without_tls_is_no_secure_one() {
    let setup = Setup::new();
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = HubOptions {
        endpoint: format!("https://{}", plain.local_addr().unwrap()),
        attempts: 1,
        ..setup.options()
    };
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let name = HubName::parse(REPO).unwrap();
    let error = Hub::new(options).pull(&name, None, &(), &Cancel::default());
    let error = error.unwrap_err();
    assert!(matches!(error, HubError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
    answering.join().unwrap();
}

#[test]
fn certificates_that_are_none_are_refused() {
    let setup = Setup::new();
    let file = setup.cache.path().join("certificates.pem");
    fs::write(&file, "nothing").unwrap();
    let options = HubOptions {
        certificates: Some(file),
        ..setup.options()
    };
    let name = HubName::parse(REPO).unwrap();
    let told = Hub::new(options).pull(&name, None, &(), &Cancel::default());
    let told = told.unwrap_err().to_string();
    assert!(
        told.contains("SSL_CERT_FILE cannot be used") && told.contains("no certificate"),
        "{told}"
    );
}

#[test]
fn a_model_that_no_engine_knows_is_refused_before_its_weights() {
    let setup = Setup::new();
    setup
        .server
        .put(REPO, "config.json", r#"{"model_type": "mystery"}"#);
    let told = setup.pull().unwrap_err().to_string();
    assert!(told.contains("the architecture `mystery`"), "{told}");
    assert!(setup.ranges().is_empty());
}

#[test]
fn names_that_lead_elsewhere_are_no_files() {
    let setup = Setup::new();
    setup.server.put(REPO, "../../../evil.json", "x");
    setup.server.put(
        REPO,
        "model.safetensors.index.json",
        r#"{"weight_map": {"a": "../evil.safetensors"}}"#,
    );
    let told = setup.pull().unwrap_err().to_string();
    assert!(told.contains("names of files in the same folder"), "{told}");
    assert!(
        setup
            .server
            .asked()
            .iter()
            .all(|asked| !asked.line.contains("evil"))
    );
}

#[test]
fn what_is_too_large_for_the_disk_is_not_begun() {
    let setup = Setup::empty();
    let head = "X-Linked-Size: 9000000000000000000|X-Linked-Etag: \
                5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    setup.server.put(REPO, "tiny.gguf", "x");
    setup
        .server
        .fault(On::Head, Fault::Status(302, head, ""), 1);
    let told = setup.pull().unwrap_err().to_string();
    assert!(
        told.contains("is full: 9000000 TB more are needed, "),
        "{told}"
    );
    assert!(told.contains("HF_HOME"), "{told}");
    assert!(setup.blobs().is_empty());
}
