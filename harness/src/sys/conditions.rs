//! What the system's own files tell about the conditions that numbers are measured under. Linux has
//! them all; where there is no such file, that much is unknown.

use std::{fs, path::Path};

/// What is known; `None` is what the system does not show.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Conditions {
    /// How many threads ran, were ready to or waited for a disk, on average over the last 1, 5 and
    /// 15 minutes.
    pub(crate) load: Option<[f64; 3]>,
    /// Whether the first processor says that it is not a real one.
    pub(crate) hypervisor: Option<bool>,
    /// The processors of the first core, as a list like `0,4` or `0-1`.
    pub(crate) siblings: Option<String>,
    /// By which rule the first processor's frequency is set.
    pub(crate) governor: Option<String>,
    /// How many processors the control group allows, if it sets a limit.
    pub(crate) quota: Option<f64>,
    /// When shared memory gets huge pages, in the kernel's word.
    pub(crate) huge_pages: Option<String>,
    /// How many bytes a pipe can be given room for.
    pub(crate) pipe_max: Option<u64>,
    /// How many messages a POSIX message queue can hold, of how many bytes each.
    pub(crate) queue_max: Option<(u64, u64)>,
}

impl Conditions {
    /// Those of this system, now.
    pub(crate) fn now() -> Conditions {
        Conditions::under(Path::new("/"))
    }

    /// Those of a system whose files stand under `root`, which is not `/` in tests.
    fn under(root: &Path) -> Conditions {
        let read = |path: &str| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            Some(text.trim().to_owned())
        };
        let setting = |name: &str| read(&format!("proc/sys/fs/{name}"))?.parse().ok();
        let cpu0 = |name: &str| read(&format!("sys/devices/system/cpu/cpu0/{name}"));
        Conditions {
            load: read("proc/loadavg").and_then(|text| load_in(&text)),
            hypervisor: read("proc/cpuinfo").map(|text| super::names_hypervisor(&text)),
            siblings: cpu0("topology/thread_siblings_list"),
            governor: cpu0("cpufreq/scaling_governor"),
            quota: quota(read),
            huge_pages: read("sys/kernel/mm/transparent_hugepage/shmem_enabled")
                .and_then(|text| chosen_in(&text)),
            pipe_max: setting("pipe-max-size"),
            queue_max: setting("mqueue/msg_max").zip(setting("mqueue/msgsize_max")),
        }
    }
}

fn load_in(loadavg: &str) -> Option<[f64; 3]> {
    let mut words = loadavg.split_whitespace().map(|word| word.parse().ok());
    let mut next = || words.next().flatten();
    Some([next()?, next()?, next()?])
}

/// By version 2 of control groups, or by version 1.
fn quota(read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let (quota, period) = match read("sys/fs/cgroup/cpu.max") {
        Some(text) => {
            let (quota, period) = text.split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (
            read("sys/fs/cgroup/cpu/cpu.cfs_quota_us")?,
            read("sys/fs/cgroup/cpu/cpu.cfs_period_us")?,
        ),
    };
    // "max" or -1 where there is none.
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The word in brackets of `always within_size [never]`.
fn chosen_in(words: &str) -> Option<String> {
    let (_, rest) = words.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> Conditions {
        let root = tempfile::tempdir().expect("a test needs a temporary folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("inside the root")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        Conditions::under(root.path())
    }

    #[test]
    fn every_file_is_read_and_none_is_needed() {
        let told = system(&[
            ("proc/loadavg", "0.10 0.20 0.30 1/90 11633\n"),
            ("proc/cpuinfo", "processor : 0\nflags\t\t: fpu hypervisor vme\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always [never] deny\n"),
            ("proc/sys/fs/pipe-max-size", "1048576\n"),
            ("proc/sys/fs/mqueue/msg_max", "10\n"),
            ("proc/sys/fs/mqueue/msgsize_max", "8192\n"),
        ]);
        let all = Conditions {
            load: Some([0.1, 0.2, 0.3]),
            hypervisor: Some(true),
            siblings: Some("0,4".into()),
            governor: Some("powersave".into()),
            quota: Some(1.5),
            huge_pages: Some("never".into()),
            pipe_max: Some(1 << 20),
            queue_max: Some((10, 8192)),
        };
        assert_eq!(told, all);
        assert_eq!(system(&[]), Conditions::default());
        let real = system(&[("proc/cpuinfo", "processor : 0\nflags : fpu vme\n")]);
        assert_eq!(real.hypervisor, Some(false));
    }

    #[test]
    fn either_version_of_control_groups_tells_a_quota_or_that_there_is_none() {
        let old = [
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(system(&old).quota, Some(0.5));
        let none = [("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"), old[1]];
        assert_eq!(system(&none).quota, None);
        assert_eq!(system(&[("sys/fs/cgroup/cpu.max", "max 100000\n")]).quota, None);
    }
}
