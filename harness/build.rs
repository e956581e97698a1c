//! Records what only the compiler knows (its version, the profile, the target) and the versions of
//! the rivals as Cargo.lock has them, so that every result can be stamped with them.

use std::{env, fs, path::Path, process::Command};

/// Packages whose locked version a result carries, with the variable that holds it.
const RIVALS: [(&str, &str); 2] =
    [("ipc-channel", "HARNESS_IPC_CHANNEL"), ("iceoryx2", "HARNESS_ICEORYX2")];

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc)
        .arg("-V")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=HARNESS_RUSTC={version}");
    for (from, to) in
        [("PROFILE", "HARNESS_PROFILE"), ("OPT_LEVEL", "HARNESS_OPT"), ("TARGET", "HARNESS_TARGET")]
    {
        println!("cargo:rustc-env={to}={}", env::var(from).unwrap_or_default());
    }

    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = Path::new(&folder).join("../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    println!("cargo:rerun-if-changed=build.rs");
    // The program holds what is in there, and the compiler does not see a new file.
    println!("cargo:rerun-if-changed=regressions");
    let text = fs::read_to_string(lock).unwrap_or_default();
    for (package, variable) in RIVALS {
        println!("cargo:rustc-env={variable}={}", locked_version(&text, package));
    }
}

/// The version on the line after `name = "package"`.
fn locked_version(lock: &str, package: &str) -> String {
    let name = format!("name = \"{package}\"");
    lock.lines()
        .skip_while(|line| *line != name)
        .nth(1)
        .and_then(|line| line.strip_prefix("version = "))
        .map_or_else(|| "unknown".into(), |version| version.trim_matches('"').to_owned())
}
