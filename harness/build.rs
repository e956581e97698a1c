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
    println!("cargo:rerun-if-changed=plans");
    let text = fs::read_to_string(lock).unwrap_or_default();
    for (package, variable) in RIVALS {
        println!("cargo:rustc-env={variable}={}", locked_version(&text, package));
    }

    let sources = Path::new(&folder).join("../ipmpsc/src");
    println!("cargo:rerun-if-changed={}", sources.display());
    println!("cargo:rustc-env=HARNESS_SOURCES={:016x}", hash_of(&sources));
}

/// A hash (FNV-1a) over the names and bytes of all Rust files below `folder`, the same in a
/// checkout, in an archive, and where git makes other line ends.
fn hash_of(folder: &Path) -> u64 {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    let mut named: Vec<_> = files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            (name.replace('\\', "/"), fs::read(path).unwrap_or_default())
        })
        .collect();
    named.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, content) in &named {
        let bytes = name.bytes().chain([0]).chain(content.iter().copied()).chain([0]);
        for byte in bytes.filter(|&byte| byte != b'\r') {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
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
