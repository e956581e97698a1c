//! Lists what can be compared.

use std::io::{Write, stdout};

use crate::{args::Options, transports::ALL};

/// Names, versions and how each moves its messages. As JSON lines if so asked.
pub(crate) fn run(options: &Options) {
    let mut out = stdout().lock();
    for transport in ALL {
        let (name, version) = (transport.name(), transport.version());
        let line = if options.json {
            let about = transport.about();
            serde_json::json!({ "transport": name, "version": version, "about": about }).to_string()
        } else {
            format!("{name:<24} {version:<8} {}", transport.about())
        };
        // A reader that has seen enough, like head, is no error.
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}
