//! The model that is compiled into the binary: small enough for that, good enough to show that a ring
//! works without a download. `models/stories` has it, and how it was made.

/// Its id.
pub const ID: &str = "stories";

/// Its folder. The names are the usual ones, so that it is read like any other model.
pub(crate) const FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../stories/config.json")),
    (
        "generation_config.json",
        include_bytes!("../stories/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../stories/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../stories/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../stories/tokenizer_config.json"),
    ),
];
