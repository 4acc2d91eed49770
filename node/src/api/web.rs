//! The web chat: files that are in the binary, and what browsers may do with them.

use super::error::ApiError;
use super::http::Reply;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::OnceLock;

/// A file of the page.
struct File {
    name: &'static str,
    body: &'static [u8],
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(File {
            name: $name,
            body: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/", $name)),
        }),*]
    };
}

/// What `/` shows.
const PAGE: &str = "index.html";

const FILES: &[File] = files![
    "index.html",
    "icon.svg",
    "base.css",
    "layout.css",
    "chat.css",
    "panels.css",
    "main.js",
    "api.js",
    "chat.js",
    "composer.js",
    "dialogs.js",
    "dom.js",
    "feed.js",
    "highlight.js",
    "inline.js",
    "markdown.js",
    "message.js",
    "models.js",
    "ring.js",
    "settings.js",
    "sidebar.js",
    "sse.js",
    "store.js",
    "words.js",
];

/// Everything comes from this node, nothing is written into the page, nobody frames it. What a peer
/// or a model says could be no script even if it got into the page as one.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page, or the file of it that is called `name`; without its body for a browser that has it.
///
/// # Errors
/// When there is no such file.
pub(super) fn file(name: Option<&str>, known: Option<&str>) -> Result<Reply, ApiError> {
    let name = name.unwrap_or(PAGE);
    let file = FILES.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| {
        ApiError::new(404, "not_found", format!("the web chat has no file {name}"))
    })?;
    let tag = tag();
    let same = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let reply = Reply {
        status: if same { 304 } else { 200 },
        content_type: content_type(name),
        headers: Vec::new(),
        body: file.body.to_vec(),
    };
    Ok(reply
        .with_header("ETag", tag)
        // Browsers ask each time, and hear that they have it.
        .with_header("Cache-Control", "no-cache")
        .with_header("Content-Security-Policy", POLICY)
        .with_header("Referrer-Policy", "no-referrer"))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// One for all files: they belong together.
fn tag() -> &'static str {
    static TAG: OnceLock<String> = OnceLock::new();
    TAG.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        for file in FILES {
            hasher.write(file.body);
        }
        format!("\"{:016x}\"", hasher.finish())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
        let mut headers = reply.headers.iter();
        headers
            .find(|header| header.0 == name)
            .map_or("", |header| &header.1)
    }

    #[test]
    fn files_say_what_they_are_and_what_is_allowed() {
        for (name, kind) in [
            (None, "text/html; charset=utf-8"),
            (Some("main.js"), "text/javascript; charset=utf-8"),
            (Some("base.css"), "text/css; charset=utf-8"),
            (Some("icon.svg"), "image/svg+xml"),
        ] {
            let reply = file(name, None).unwrap();
            assert_eq!((reply.status, reply.content_type), (200, kind));
            assert!(header(&reply, "Content-Security-Policy").starts_with("default-src 'self';"));
        }
        for name in ["", "../Cargo.toml", "nothing.js"] {
            assert_eq!(file(Some(name), None).unwrap_err().status, 404, "{name}");
        }
    }

    #[test]
    fn who_has_a_file_is_not_sent_it_again() {
        let reply = file(None, None).unwrap();
        let tag = header(&reply, "ETag").to_owned();
        let again = file(None, Some(&format!("\"x\", {tag}"))).unwrap();
        assert_eq!(again.status, 304);
        let text = String::from_utf8(again.to_bytes(false)).unwrap();
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(file(None, Some("\"x\"")).unwrap().status, 200);
    }

    /// Every file is in the list, is small enough to be read, and asks nobody else for anything.
    #[test]
    fn the_page_needs_nobody() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        let there = std::fs::read_dir(folder).unwrap();
        let mut there: Vec<String> = there
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        there.sort();
        let mut listed: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        listed.sort_unstable();
        assert_eq!(there, listed);
        for file in FILES {
            let text = std::str::from_utf8(file.body).unwrap();
            let name = file.name;
            assert!(text.lines().count() < 400, "{name} is too long");
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(word), "{name} says {word}");
            }
            for word in [
                "src=\"http",
                "href=\"http",
                "url(http",
                "from \"http",
                "@import",
            ] {
                assert!(!text.contains(word), "{name} says {word}");
            }
        }
    }
}
