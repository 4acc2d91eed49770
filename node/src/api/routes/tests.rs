use super::*;

fn status(method: &str, path: &str, origin: Option<&str>) -> u16 {
    let mut request = Request::new(method, path);
    let headers = [("Host", Some("localhost:52415")), ("Origin", origin)];
    let headers = headers.into_iter();
    request.headers = headers
        .filter_map(|(name, value)| Some((name, value?.to_owned())))
        .collect();
    let checked = check(&Access::default(), &request);
    checked.map_or_else(|reply| reply.status, |_| 200)
}

#[test]
fn paths_have_their_methods() {
    for path in [
        "/",
        "/health",
        "/healthcheck",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/trace/x",
        "/models",
        "/v1/models",
        "/topology",
        "/v1/topology",
        "/v1/status",
        "/v1/plan",
        "/plan/a/b",
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/initial_models",
        "/modelpool",
        "/v1/download/progress",
        "/web/main.js",
    ] {
        assert_eq!(status("GET", path, None), 200, "{path}");
        assert_eq!(status("HEAD", path, None), 200, "{path}");
        assert_eq!(status("POST", path, None), 405, "{path}");
    }
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/responses",
        "/api/chat",
        "/api/generate",
        "/api/pull",
        "/api/show",
        "/download",
        "/v1/chat/token/encode",
        "/quit",
    ] {
        assert_eq!(status("POST", path, None), 200);
        assert_eq!(status("GET", path, None), 405);
    }
    for path in ["/v2/models", "/v1/", "//", "/index.html"] {
        assert_eq!(status("GET", path, None), 404, "{path}");
    }
}

#[test]
fn what_is_not_here_is_told_in_the_words_of_its_api() {
    for (method, path, wanted) in [
        ("POST", "/api/embed", "{\"error\":\"there is nothing"),
        ("GET", "/api/chat", "{\"error\":\"/api/chat answers"),
        (
            "POST",
            "/v1/messages/batches",
            "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\"",
        ),
        ("POST", "/v1/messages2", "{\"error\":{\"message\""),
        ("POST", "/apis", "{\"error\":{\"message\""),
    ] {
        let told = check(&Access::default(), &Request::new(method, path)).unwrap_err();
        let body = String::from_utf8_lossy(&told.body).into_owned();
        assert!(body.starts_with(wanted), "{path}: {body}");
    }
}

#[test]
fn models_are_fetched_and_removed() {
    for (method, path, wanted) in [
        ("GET", "/v1/models/a/b", 200),
        ("DELETE", "/v1/models/a%2Fb", 200),
        ("POST", "/models/x", 405),
        ("GET", "/v1/downloads", 200),
        ("POST", "/v1/downloads", 200),
        ("DELETE", "/v1/downloads", 405),
        ("DELETE", "/v1/downloads/a/b", 200),
        ("GET", "/v1/downloads/a/b", 405),
        ("DELETE", "/api/delete", 200),
        ("POST", "/api/delete", 405),
    ] {
        assert_eq!(status(method, path, None), wanted, "{method} {path}");
    }
    let evil = Some("http://evil.example");
    assert_eq!(status("DELETE", "/v1/models/x", evil), 403);
    assert_eq!(status("DELETE", "/api/delete", evil), 403);
    for path in ["/v1/downloads", "/api/pull", "/download"] {
        assert_eq!(status("POST", path, evil), 403, "{path}");
    }
    for (id, wanted) in [("a%2Fb:c", "a/b:c"), ("a%2", "a%2"), ("%zz%41", "%zzA")] {
        assert_eq!(plain(id), wanted);
    }
}

#[test]
fn other_sites_do_not_use_the_users_node() {
    let chat = "/v1/chat/completions";
    assert_eq!(status("POST", chat, Some("http://evil.example")), 403);
    assert_eq!(status("POST", chat, Some("https://localhost:1")), 403);
    assert_eq!(status("POST", chat, Some("null")), 403);
    assert_eq!(status("POST", chat, Some("http://localhost:52415")), 200);
    assert_eq!(status("POST", chat, Some("app://chat")), 403);
    assert_eq!(
        status("GET", "/v1/models", Some("http://evil.example")),
        200
    );
}
