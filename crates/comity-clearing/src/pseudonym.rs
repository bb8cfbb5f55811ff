//! Pseudonyms: what one organisation knows a project by. Stable there, unlinkable elsewhere without the house's secret.

use comity_wire::{OrgId, ProjectId, Pseudonym, PublicKey};
use sha2::{Digest as _, Sha256};

/// The first 16 bytes of HMAC-SHA256(secret, project ‖ organisation).
pub fn derive(secret: &[u8; 32], project: ProjectId, owner: OrgId) -> Pseudonym {
    let mac = hmac_sha256(secret, &[project.as_bytes(), owner.as_bytes()]);
    let mut subject = [0; 16];
    subject.copy_from_slice(&mac[..16]);
    Pseudonym(subject)
}

/// What one organisation knows a member of a project by: as [`derive`], with the member's key behind it.
pub fn member(secret: &[u8; 32], project: ProjectId, owner: OrgId, key: &PublicKey) -> Pseudonym {
    let mac = hmac_sha256(secret, &[project.as_bytes(), owner.as_bytes(), key.as_bytes()]);
    let mut subject = [0; 16];
    subject.copy_from_slice(&mac[..16]);
    Pseudonym(subject)
}

/// RFC 2104 with SHA-256. The key is shorter than a block, so it is only padded.
fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let pad = |byte: u8| {
        let mut block = [byte; BLOCK];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    parts.iter().for_each(|part| inner.update(part));
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    use comity_wire::Digest;

    use super::*;

    /// RFC 4231 §4.4: a key of 25 bytes, which padding with zeros to 32 does not change.
    #[test]
    fn the_mac_is_the_one_of_rfc_4231() {
        let mut key = [0; 32];
        for (at, byte) in (1..=25).enumerate() {
            key[at] = byte;
        }
        let mac = hmac_sha256(&key, &[&[0xcd; 20], &[0xcd; 30]]);
        assert_eq!(Digest(mac).to_string(), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    }

    #[test]
    fn one_project_has_one_name_at_each_organisation() {
        let name = |project, owner| derive(&[7; 32], ProjectId([project; 16]), OrgId([owner; 16]));
        assert_eq!(name(1, 1), name(1, 1));
        assert_ne!(name(1, 1), name(1, 2));
        assert_ne!(name(1, 1), name(2, 1));
        assert_ne!(name(1, 1), derive(&[8; 32], ProjectId([1; 16]), OrgId([1; 16])));
    }
}
