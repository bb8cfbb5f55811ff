//! Signed objects: bytes are refused, or are the one encoding of what they are read as.

use comity_wire::Signed;
use comity_wire::object::{
    Acknowledgement, Block, Chain, Final, Grant, Manifest, NodeCertificate, Policy, Receipt, RevocationList, Summary,
    Tariff, Token,
};

pub fn target(data: &[u8]) {
    if let Ok(chain) = Chain::from_bytes(data) {
        assert_eq!(chain.to_bytes(), data, "a chain has one encoding");
        let _ = Signed::<Token>::decode(&chain.token);
        chain.blocks.iter().for_each(|block| drop(Signed::<Block>::decode(block)));
    }
    macro_rules! decode {
        ($($object:ty),*) => {
            // The object's id rests on these bytes: they are kept as they came.
            $(if let Ok(signed) = Signed::<$object>::decode(data) {
                assert_eq!(signed.bytes(), data, stringify!($object));
            })*
        };
    }
    decode!(
        Token,
        Block,
        Receipt,
        Acknowledgement,
        Final,
        Grant,
        Manifest,
        NodeCertificate,
        Policy,
        RevocationList,
        Summary,
        Tariff
    );
}
