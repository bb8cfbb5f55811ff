//! What the home lies on: the kind of file system, and how much room there is.

use std::path::Path;

use super::Check;
use crate::home::Home;

/// File systems on which SQLite's locks are not to be trusted.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "ocfs2",
    "gfs2",
];
const MIB: u64 = 1 << 20;
/// Below this writing soon fails.
const LEFT_FAIL: u64 = 256 * MIB;
const LEFT_WARN: u64 = 2_048 * MIB;

pub(super) fn checks(home: &Home) -> Vec<Check> {
    vec![file_system(&home.path), room(&home.path)]
}

fn file_system(path: &Path) -> Check {
    let kind = std::fs::read_to_string("/proc/self/mountinfo").ok().zip(std::fs::canonicalize(path).ok());
    let Some(kind) = kind.and_then(|(mounts, path)| kind_of(&mounts, &path)) else {
        return Check::warn("file system", "its kind cannot be told here", "see that the home is on a local disk");
    };
    judge(&kind)
}

fn judge(kind: &str) -> Check {
    if NETWORK.contains(&kind) {
        let next = "move the home to a local disk: over a network two writers can believe that they are alone. Where one machine is not enough: PostgreSQL";
        return Check::fail("file system", format!("the home is on {kind}"), next);
    }
    if kind.starts_with("fuse") {
        return Check::warn(
            "file system",
            format!("the home is on {kind}"),
            "see that it is a local disk, and that it keeps what it says it synced",
        );
    }
    if matches!(kind, "tmpfs" | "ramfs") {
        return Check::fail(
            "file system",
            format!("the home is on {kind}: a restart of the machine loses it"),
            "move the home to a disk",
        );
    }
    Check::ok("file system", kind)
}

/// The kind of the file system that `path` is on, by the kernel's list: of the mounts above it, the deepest, and of two there the last.
fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let (before, after) = line.split_once(" - ")?;
        // The kernel writes blanks as octal numbers.
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        if path.starts_with(&point) && found.is_none_or(|(deepest, _)| depth >= deepest) {
            found = Some((depth, after.split(' ').next()?));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
}

fn room(path: &Path) -> Check {
    let Ok(about) = rustix::fs::statvfs(path) else {
        return Check::warn("disk", "how much room there is cannot be told", "look at it with df");
    };
    let left = about.f_bavail.saturating_mul(about.f_frsize);
    let found = format!("{} MiB are free", left / MIB);
    let next = "make room: a full disk is 503 for every sale and claim, and nothing is lost";
    match left {
        0..LEFT_FAIL => Check::fail("disk", found, next),
        LEFT_FAIL..LEFT_WARN => Check::warn("disk", found, next),
        _ => Check::ok("disk", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_home_on_a_network_file_system_is_told_from_one_on_a_disk() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      30 22 0:41 / /srv rw shared:2 - nfs4 server:/srv rw,vers=4.2\n\
                      31 30 8:2 / /srv/my\\040disk rw shared:3 - xfs /dev/sdb1 rw\n";
        let of = |path: &str| kind_of(mounts, Path::new(path)).unwrap();
        assert_eq!(
            [of("/var/lib/house"), of("/srv/house"), of("/srv/my disk/house"), of("/srvx")],
            ["ext4", "nfs4", "xfs", "ext4"]
        );
        for (kind, state) in
            [("ext4", State::Ok), ("nfs4", State::Fail), ("fuse.sshfs", State::Warn), ("tmpfs", State::Fail)]
        {
            assert_eq!(judge(kind).state, state, "{kind}");
        }
    }
}
