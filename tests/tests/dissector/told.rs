//! What the fields of the specification's examples are.

/// Fields of the specification's examples, told by hand: the first of each message.
pub(crate) const TOLD: &[(&str, &[(&str, &str)])] = &[
    (
        "HEALTH_CHECK_RESPONSE",
        &[("json.key", "is_healthy"), ("exo.length", "20")],
    ),
    (
        "SEND_PROMPT_REQUEST",
        &[("exo.request_id", "R1"), ("exo.model_id", "dummy")],
    ),
    (
        "SEND_TENSOR_REQUEST",
        &[
            ("exo.request_id", "R1"),
            ("exo.json_length", "173"),
            ("exo.tensor.key", "tensor"),
            ("exo.tensor.dtype", "int32"),
            ("exo.tensor.shape", "[1, 1]"),
            ("exo.tensor.bytes", "4"),
        ],
    ),
    (
        "SEND_EXAMPLE_REQUEST",
        &[
            ("exo.tensor.key", "example;target;length"),
            ("exo.tensor.bytes", "8;8;4"),
        ],
    ),
    ("SEND_RESULT", &[("exo.request_id", "R1")]),
    ("SEND_OPAQUE_STATUS", &[("exo.request_id", "R1")]),
    ("PING", &[("exo.id", "1")]),
    ("ERROR", &[("exo.error.code", "5"), ("exo.text", "spent")]),
    (
        "GOODBYE",
        &[("exo.goodbye.code", "0"), ("exo.text", "updating")],
    ),
    (
        "OPEN",
        &[
            ("exo.stream", "1"),
            ("exo.request_id", "R1"),
            ("exo.model_id", "dummy"),
        ],
    ),
    (
        "STEP",
        &[
            ("exo.stream", "1"),
            ("exo.position", "0"),
            ("exo.step.flags.sample", "1"),
            ("exo.elements", "0"),
            ("exo.tokens", "5, 11, 2"),
            ("exo.width", ""),
        ],
    ),
    (
        "TOKEN",
        &[
            ("exo.index", "0"),
            ("exo.token", "2"),
            ("exo.token.flags.end", "0"),
            ("exo.token.flags.last", "0"),
        ],
    ),
    ("CLOSE", &[("exo.stream", "1")]),
    ("CREDIT", &[("exo.stream", "1"), ("exo.bytes", "2097152")]),
    (
        "END",
        &[
            ("exo.epoch", "0"),
            ("exo.end.code", "0"),
            ("exo.request_length", "2"),
            ("exo.request", "R1"),
            ("exo.text", "done"),
        ],
    ),
    (
        "FAILED",
        &[
            ("exo.failed.code", "3"),
            ("exo.request", "R1"),
            ("exo.text", "no room"),
        ],
    ),
    (
        "CHUNK",
        &[
            ("exo.transfer", "1"),
            ("exo.chunk.kind", "0x87"),
            ("exo.total", "14"),
            ("exo.offset", "0"),
            ("exo.tokens", "5"),
        ],
    ),
    ("ABORT", &[("exo.transfer", "1")]),
    ("BEGIN", &[("exo.model_id", "dummy")]),
    (
        "BEGUN",
        &[
            ("exo.trainable", "8"),
            ("exo.iteration", "0"),
            ("exo.job", "J1"),
        ],
    ),
    (
        "EXAMPLE",
        &[
            ("exo.step", "1"),
            ("exo.batch", "1"),
            ("exo.positions", "2"),
            ("exo.width", "0"),
            ("exo.example.flags.learn", "1"),
            ("exo.job", "J1"),
            ("exo.targets", "11, 2"),
            ("exo.counted", "0, 2"),
            ("exo.tokens", "5, 11"),
        ],
    ),
    (
        "GRADIENT",
        &[
            ("exo.step", "1"),
            ("exo.loss", "0.5"),
            ("exo.counted_positions", "2"),
            ("exo.job", "J1"),
            ("exo.tensor.key", "gradient"),
            ("exo.tensor.shape", "[1, 2, 1]"),
        ],
    ),
    ("LOSS", &[("exo.loss", "0.5"), ("exo.job", "J1")]),
    ("SAVE", &[("exo.iteration", "1"), ("exo.job", "J1")]),
    (
        "SAVED",
        &[
            ("exo.iteration", "1"),
            ("exo.job", "J1"),
            ("exo.file", "4-7-1.safetensors"),
        ],
    ),
    (
        "WANT",
        &[
            ("exo.want", "1"),
            ("exo.from", "0"),
            ("exo.most", "1048576"),
            ("exo.file", "me/tiny"),
        ],
    ),
    (
        "PART",
        &[
            ("exo.size", "10"),
            ("exo.part.code", "0"),
            ("exo.content", "616263"),
        ],
    ),
];
