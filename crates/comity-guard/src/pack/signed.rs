//! A pack that somebody else wrote: the bytes of its file, and a signature of whoever answers for them.

use comity_wire::{PublicKey, SecretKey};

/// Stands before the file's bytes, so that a signature of anything else is none of a pack.
const CONTEXT: &[u8] = b"comity/v1/rule-pack\0";

fn signed(text: &str) -> Vec<u8> {
    [CONTEXT, text.as_bytes()].concat()
}

/// Ed25519 over the context and the file's bytes.
#[must_use]
pub fn sign(text: &str, key: &SecretKey) -> [u8; 64] {
    key.sign(&signed(text))
}

/// Whether this key signed these bytes.
#[must_use]
pub fn is_signed(text: &str, signature: &[u8; 64], key: &PublicKey) -> bool {
    key.verify(&signed(text), signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_file_and_one_key_and_of_packs_alone() {
        let (key, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let signature = sign("name = \"lab\"\n", &key);
        assert!(is_signed("name = \"lab\"\n", &signature, &key.public()));
        assert!(!is_signed("name = \"lab\"", &signature, &key.public()));
        assert!(!is_signed("name = \"lab\"\n", &signature, &other.public()));
        assert!(!is_signed("name = \"lab\"\n", &key.sign(b"name = \"lab\"\n"), &key.public()));
    }
}
