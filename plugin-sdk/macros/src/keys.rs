//! The keys of a manifest by the table that they stand in, and the versions of the contract that there are. They stand here once more
//! than in the host, which reads them and whose tests hold its own against these, because a plugin's crate does not depend on it.

/// The tables as they are written, the document itself first, with their keys. `NAME` stands for whatever a column is called.
pub(crate) const TABLES: [(&str, &[&str]); 13] = [
    ("", &["plugin", "inputs", "outputs", "training", "config", "capabilities", "poll", "limits"]),
    (
        "[plugin]",
        &["id", "version", "kind", "abi", "kernel", "title", "description", "license", "idempotent", "state_version"],
    ),
    ("[inputs.NAME]", &["expression", "type", "fields", "reason"]),
    ("[outputs.NAME]", &["type", "values", "description", "category"]),
    ("[training]", &["label", "horizon", "every", "cut_offs", "predicts", "timeless"]),
    ("[capabilities]", &["http", "secrets", "kv", "emits", "recipients", "mail", "purposes"]),
    ("[[capabilities.http]]", &["host", "methods", "reason"]),
    ("[[capabilities.secrets]]", &["name", "hosts", "reason", "optional", "form"]),
    ("[capabilities.kv]", &["bytes", "reason"]),
    ("[[capabilities.recipients]]", &["type", "reason"]),
    ("[[capabilities.mail]]", &["host", "reason"]),
    ("[poll]", &["interval", "reason"]),
    (
        "[limits]",
        &[
            "memory_bytes",
            "cpu_ms",
            "wall_ms",
            "fuel",
            "output_bytes",
            "log_bytes",
            "host_calls",
            "messages_at_once",
            "requests_per_host",
            "requests_per_minute",
        ],
    ),
];

/// The versions of the contract, as `abi` names them.
pub(crate) const ABIS: [&str; 2] = ["0.1", "0.2"];
