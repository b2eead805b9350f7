//! Ownership of processes and files by user.

use std::fs;

use rustix::process::{Uid, geteuid};

/// The kernel's default for users that the user namespace does not map.
const OVERFLOW_UID: u32 = 65534;

/// Whether this is the user of this process. The overflow uid never is: in a user namespace it represents
/// every user of the host that is not mapped.
pub fn is_ours(uid: Uid) -> bool {
    uid == geteuid() && is_mapped(uid, overflow_uid())
}

/// Whether processes of this user can be distinguished from those of other users.
pub fn is_verifiable() -> bool {
    is_ours(geteuid())
}

fn is_mapped(uid: Uid, overflow: u32) -> bool {
    uid.as_raw() != overflow
}

fn overflow_uid() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW_UID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overflow_uid_is_not_ours() {
        assert!(!is_mapped(Uid::from_raw(OVERFLOW_UID), overflow_uid()));
        assert!(is_mapped(Uid::from_raw(7), OVERFLOW_UID) && !is_mapped(Uid::from_raw(7), 7));
        assert_eq!(is_ours(geteuid()), geteuid().as_raw() != overflow_uid());
        assert!(!is_ours(Uid::from_raw(geteuid().as_raw().wrapping_add(1))));
    }
}
