//! Chains that stand, and chains that are refused, each for one reason.

use comity_wire::object::*;
use comity_wire::{Amount, Code, Encode as _, NodeId, Op, Timestamp, Verified, cose};

use super::world::{self, *};

pub(crate) struct Case {
    pub id: &'static str,
    pub rule: &'static str,
    pub note: &'static str,
    pub chain: Vec<u8>,
    /// Name of the state; see [`states`].
    pub state: &'static str,
    pub node: NodeId,
    pub now: Timestamp,
    pub expect: Result<(), Code>,
}

/// The states that cases name.
pub(crate) fn states() -> Vec<(&'static str, State)> {
    let first = blocks(root().id())[0].id().to_string();
    let mut ended = roster();
    ended.expires_at = NOW.minus(1);
    vec![
        ("base", base()),
        ("no-list", state(Vec::new(), None)),
        ("old-list", state(Vec::new(), Some(DAY_S + 1))),
        ("coming-list", world::state_at(Vec::new(), Some(NOW.plus(61)))),
        ("day-old-list", state(Vec::new(), Some(DAY_S))),
        ("token-revoked", state(vec![(RevokedKind::Token, TOKEN.to_string())], Some(HOUR_S))),
        ("block-revoked", state(vec![(RevokedKind::Block, first)], Some(HOUR_S))),
        ("node-revoked", state(vec![(RevokedKind::Node, LAB_NODE.to_string())], Some(HOUR_S))),
        ("organisation-revoked", state(vec![(RevokedKind::Organisation, LAB.to_string())], Some(HOUR_S))),
        ("roster-ended", State { roster: roster_file(&ended), ..base() }),
    ]
}

pub(crate) fn root() -> Verified<Token> {
    cose::sign(&token(), &secret("house issuer"))
}

/// The usual chain with its first `count` blocks.
pub(crate) fn usual(count: usize) -> Vec<u8> {
    let root = root();
    let blocks = blocks(root.id());
    let parts: Vec<&[u8]> = blocks.iter().take(count).map(Verified::bytes).collect();
    world::chain(root.bytes(), &parts)
}

fn minted(token: &Token, signer: &str) -> Vec<u8> {
    world::chain(cose::sign(token, &secret(signer)).bytes(), &[])
}

fn changed(change: impl FnOnce(&mut Token)) -> Vec<u8> {
    let mut token = token();
    change(&mut token);
    minted(&token, "house issuer")
}

fn own(change: impl FnOnce(&mut Token)) -> Vec<u8> {
    let mut token = own_token();
    change(&mut token);
    minted(&token, "lab issuer")
}

/// The root with one changed first block, signed by its holder.
fn with_block(change: impl FnOnce(&mut Block)) -> Vec<u8> {
    let root = root();
    let mut block = block(root.id());
    change(&mut block);
    world::chain(root.bytes(), &[cose::sign(&block, &secret("pi")).bytes()])
}

fn raw_root(raw: &Raw<'_>, payload: &[u8]) -> Vec<u8> {
    world::chain(&raw.sign(payload, &secret("house issuer")), &[])
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = standing();
    all.extend(malformed());
    all.extend(issuers());
    all.extend(links());
    all.extend(widening());
    all.extend(judged());
    all
}

fn case(id: &'static str, rule: &'static str, note: &'static str, chain: Vec<u8>, expect: Result<(), Code>) -> Case {
    Case { id, rule, note, chain, state: "base", node: LAB_NODE, now: NOW, expect }
}

fn standing() -> Vec<Case> {
    let good = |id, note, chain| case(id, "T-1", note, chain, Ok(()));
    let retired = minted(
        &{
            let mut token = token();
            token.issued_at = NOW.minus(DAY_S / 2);
            token.not_before = NOW.minus(DAY_S / 2);
            token
        },
        "house issuer retired",
    );
    vec![
        good("root", "a token by itself", usual(0)),
        good("one-block", "PI to student", usual(1)),
        good("three-blocks", "PI to student to job to a part of it", usual(3)),
        good("own-node", "budget 0, issued by the audience's organisation", own(|_| ())),
        good("retired-in-time", "issued in the last second of a key that is retired now", retired),
        good(
            "block-as-wide",
            "a block may give all but depth",
            with_block(|block| {
                let token = token();
                (block.cap, block.expires_at) = (token.terms.budget, token.expires_at);
                (block.lanes, block.models, block.ops) = (Some(8), Default::default(), Default::default());
            }),
        ),
        Case { now: NOW.plus(12 * HOUR_S + 59), ..good("last-second", "now = exp + 59", usual(0)) },
        Case { now: NOW.minus(HOUR_S + 60), state: "base", ..good("first-second", "now = nbf - 60", usual(0)) },
        Case { state: "day-old-list", ..good("list-a-day-old", "24 h are not too old", usual(0)) },
        Case {
            state: "block-revoked",
            ..good("parent-of-revoked", "a revoked block leaves its parent alone", usual(0))
        },
    ]
}

fn malformed() -> Vec<Case> {
    let bad = |id, rule, note, chain, code| case(id, rule, note, chain, Err(code));
    let (house, payload) = (secret("house issuer").public(), token().to_cbor());
    let raw = || Raw::of::<Token>(house.as_bytes());
    let whole = usual(0);
    let long_head = [&[0x98, 0x01], &whole[1..]].concat();
    // Fields 1 … 8 and the private claim make nine; a tenth is unknown.
    let mut tenth = payload.clone();
    tenth[0] += 1;
    tenth.extend_from_slice(&[0x3a, 0x00, 0x01, 0x11, 0x71, 0x00]);
    let holder = secret("pi").public();
    let mut identity = [0; 32];
    identity[0] = 1;
    let weak = replace(&payload, holder.as_bytes(), &identity);
    let block_payload = block(root().id()).to_cbor();
    let weak_next = replace(&block_payload, secret("student").public().as_bytes(), &identity);
    let weak_block = Raw::of::<Block>(holder.as_bytes()).sign(&weak_next, &secret("pi"));
    let twice = replace(&payload, &[0x05, 0x1a], &[0x04, 0x1a]);
    vec![
        bad("empty", "E-4", "no bytes at all", Vec::new(), Code::Malformed),
        bad("no-token", "E-8", "a chain of nothing", vec![0x80], Code::Malformed),
        bad("cut", "E-4", "the last byte is missing", whole[..whole.len() - 1].to_vec(), Code::Malformed),
        bad("more", "E-4", "a byte too many", [&whole[..], &[0]].concat(), Code::Malformed),
        bad(
            "six-parts",
            "E-8",
            "a token and five blocks",
            {
                let part = root();
                world::chain(part.bytes(), &[part.bytes(); 5])
            },
            Code::Malformed,
        ),
        bad("long-head", "E-1", "the chain's length is not in its shortest form", long_head, Code::NonDeterministic),
        bad(
            "claim-twice",
            "E-3",
            "claim 4 twice, claim 5 not at all",
            raw_root(&raw(), &twice),
            Code::NonDeterministic,
        ),
        bad("nine-deep", "E-5", "nine arrays in each other", [vec![0x81; 9], vec![0]].concat(), Code::TooDeep),
        bad("chain-too-large", "E-6", "more than 12 KiB", world::chain(&vec![0; 12_288], &[]), Code::TooLarge),
        bad("token-too-large", "E-6", "more than 4 KiB", world::chain(&vec![0xd2; 4_097], &[]), Code::TooLarge),
        bad(
            "unknown-claim",
            "E-7",
            "a claim that the grammar does not have",
            raw_root(&raw(), &tenth),
            Code::UnknownField,
        ),
        bad(
            "unknown-label",
            "E-7",
            "a header label that the grammar does not have",
            raw_root(&Raw { label: Some(33), ..raw() }, &payload),
            Code::UnknownField,
        ),
        bad(
            "unprotected",
            "E-8",
            "an unprotected header that is not empty",
            raw_root(&Raw { unprotected: &[0xa1, 0x01, 0x32], ..raw() }, &payload),
            Code::Malformed,
        ),
        bad("no-tag", "E-2", "the token lacks tag 18", world::chain(&root().bytes()[1..], &[]), Code::Malformed),
        bad("weak-holder", "K-1", "a small-order point in cnf", raw_root(&raw(), &weak), Code::InvalidKey),
        bad(
            "weak-next",
            "K-1",
            "a small-order point as a block's next key",
            world::chain(root().bytes(), &[&weak_block]),
            Code::InvalidKey,
        ),
        bad(
            "life-of-25-hours",
            "E-8",
            "24 hours are the most",
            raw_root(&raw(), &{
                let mut token = token();
                token.expires_at = token.issued_at.plus(25 * HOUR_S);
                token.to_cbor()
            }),
            Code::Malformed,
        ),
        bad(
            "block-as-token",
            "E-10",
            "a block in the token's place",
            world::chain(blocks(root().id())[0].bytes(), &[]),
            Code::WrongKind,
        ),
        bad(
            "version-2",
            "E-10",
            "typ of another version",
            raw_root(&Raw { typ: "application/vnd.comity.token.v2".to_owned(), ..raw() }, &payload),
            Code::WrongKind,
        ),
        bad(
            "eddsa",
            "E-10",
            "alg -8, the old name for any EdDSA curve",
            raw_root(&Raw { alg: -8, ..raw() }, &payload),
            Code::WrongAlgorithm,
        ),
    ]
}

fn issuers() -> Vec<Case> {
    let bad = |id, rule, note, chain, code| case(id, rule, note, chain, Err(code));
    let house = secret("house issuer").public();
    let aad = Raw { aad: "comity/v1/quote".to_owned(), ..Raw::of::<Token>(house.as_bytes()) };
    let stranger = secret("stranger");
    let named = Raw::of::<Token>(house.as_bytes()).sign(&token().to_cbor(), &stranger);
    let late = |iat: Timestamp| {
        let mut token = token();
        token.issued_at = iat;
        token
    };
    vec![
        bad("stranger", "K-5", "a key that the roster does not list", minted(&token(), "stranger"), Code::WrongIssuer),
        bad(
            "another-organisations-key",
            "K-5",
            "the lab's issuer key under iss house",
            minted(&token(), "lab issuer"),
            Code::WrongIssuer,
        ),
        bad(
            "organisation-key",
            "K-5",
            "the organisation's own key is no issuer key",
            minted(&token(), "house organisation"),
            Code::WrongIssuer,
        ),
        bad(
            "organisation-not-listed",
            "K-5",
            "iss is not on the roster",
            changed(|token| token.issuer = IdText(comity_wire::OrgId([9; 16]))),
            Code::WrongIssuer,
        ),
        bad(
            "compromised",
            "K-5",
            "no token of a compromised key stands",
            minted(&token(), "house issuer compromised"),
            Code::WrongIssuer,
        ),
        bad(
            "retired",
            "K-5",
            "issued a second after retirement",
            minted(&late(NOW.minus(DAY_S / 2 - 1)), "house issuer retired"),
            Code::WrongIssuer,
        ),
        bad(
            "not-in-use-yet",
            "K-5",
            "issued before the key's first use",
            minted(&token(), "house issuer next"),
            Code::WrongIssuer,
        ),
        bad(
            "own-node-elsewhere",
            "K-6",
            "an own-node key for another organisation's node",
            own(|token| token.audience = IdText(UNI_NODE)),
            Code::WrongIssuer,
        ),
        bad(
            "own-node-budget",
            "K-6",
            "an own-node key with a budget",
            own(|token| token.terms.budget = Amount::from_ucr(1)),
            Code::WrongIssuer,
        ),
        bad(
            "own-node-vetting",
            "K-6",
            "an own-node key that states vetting",
            own(|token| token.terms.vetting = Vetting::Registered),
            Code::WrongIssuer,
        ),
        bad(
            "own-node-subject",
            "K-6",
            "an own-node token's subject is the holder's thumbprint",
            own(|token| token.subject = text("sub-aaaaaaaaaaaaaaaaaaaaaaaaaa")),
            Code::WrongIssuer,
        ),
        bad(
            "roster-behind",
            "T-1",
            "the token asks for a newer roster",
            changed(|token| token.terms.roster_version = 4),
            Code::RosterBehind,
        ),
        bad(
            "roster-behind-key",
            "T-1",
            "an unknown key, under a newer roster",
            {
                let mut token = token();
                token.terms.roster_version = 4;
                minted(&token, "house issuer of version 4")
            },
            Code::RosterBehind,
        ),
        Case {
            state: "roster-ended",
            ..bad("roster-ended", "K-4", "the roster has ended", usual(0), Code::RosterExpired)
        },
        bad(
            "flipped",
            "E-11",
            "one bit of the signature",
            world::chain(&flipped(root().bytes()), &[]),
            Code::BadSignature,
        ),
        bad(
            "named-but-not-signed",
            "E-9",
            "kid names the issuer, another key signs",
            world::chain(&named, &[]),
            Code::BadSignature,
        ),
        bad(
            "another-kinds-aad",
            "E-9",
            "signed as if it were a quote",
            raw_root(&aad, &token().to_cbor()),
            Code::BadSignature,
        ),
    ]
}

fn links() -> Vec<Case> {
    let bad = |id, rule, note, chain, code| case(id, rule, note, chain, Err(code));
    let root = root();
    let [first, second, third] = blocks(root.id());
    let mut other = token();
    other.id = comity_wire::TokenId([0x78; 16]);
    let other = cose::sign(&other, &secret("house issuer"));
    let elsewhere = cose::sign(&block(other.id()), &secret("pi"));
    let by_stranger = cose::sign(&block(root.id()), &secret("stranger"));
    let join = |parts: &[&[u8]]| world::chain(root.bytes(), parts);
    vec![
        bad(
            "spliced",
            "T-3",
            "a block of another token of the same holder",
            join(&[elsewhere.bytes()]),
            Code::BlockSpliced,
        ),
        bad(
            "spliced-in-the-middle",
            "T-3",
            "the second block follows another first",
            {
                let mut narrower = block(root.id());
                narrower.cap = Amount::credits(2);
                let narrower = cose::sign(&narrower, &secret("pi"));
                join(&[narrower.bytes(), second.bytes()])
            },
            Code::BlockSpliced,
        ),
        bad(
            "swapped",
            "T-3",
            "two blocks in the wrong order",
            join(&[second.bytes(), first.bytes()]),
            Code::BlockOrder,
        ),
        bad(
            "one-left-out",
            "T-3",
            "the block between is missing",
            join(&[first.bytes(), third.bytes()]),
            Code::BlockOrder,
        ),
        bad("twice", "T-3", "one block twice", join(&[first.bytes(), first.bytes()]), Code::BlockOrder),
        bad(
            "signed-by-a-stranger",
            "T-3",
            "a block that the holder has not signed",
            join(&[by_stranger.bytes()]),
            Code::WrongKey,
        ),
        bad(
            "block-flipped",
            "E-11",
            "one bit of a block's signature",
            join(&[first.bytes(), &flipped(second.bytes())]),
            Code::BadSignature,
        ),
        bad("token-as-block", "E-10", "a token in a block's place", join(&[root.bytes()]), Code::WrongKind),
        bad(
            "second-cut",
            "E-4",
            "the second block ends early",
            join(&[first.bytes(), &second.bytes()[..40]]),
            Code::Malformed,
        ),
    ]
}

fn widening() -> Vec<Case> {
    let wide = |id, note, chain| case(id, "T-4", note, chain, Err(Code::BlockWidens));
    let second = |change: &dyn Fn(&mut Block)| {
        let root = root();
        let [first, second, _] = blocks(root.id());
        let mut block = second.into_object();
        change(&mut block);
        world::chain(root.bytes(), &[first.bytes(), cose::sign(&block, &secret("student")).bytes()])
    };
    vec![
        wide("cap", "one µcr above the budget", with_block(|block| block.cap = Amount::from_ucr(10_000_001))),
        wide(
            "cap-of-block",
            "one µcr above the block before",
            second(&|block| block.cap = Amount::from_ucr(4_000_001)),
        ),
        wide("expiry", "a second after the token", with_block(|block| block.expires_at = NOW.plus(12 * HOUR_S + 1))),
        wide(
            "expiry-of-block",
            "a second after the block before",
            second(&|block| block.expires_at = NOW.plus(6 * HOUR_S + 1)),
        ),
        wide("lanes", "a lane too many", with_block(|block| block.lanes = Some(9))),
        wide("lanes-of-block", "a lane more than the block before", second(&|block| block.lanes = Some(5))),
        wide("depth", "as much depth as before", with_block(|block| block.depth = Some(3))),
        wide("depth-of-block", "as much depth as the block before", second(&|block| block.depth = Some(2))),
        wide("depth-used-up", "a block after one that left depth out", {
            let root = root();
            let mut last = block(root.id());
            last.depth = None;
            let last = cose::sign(&last, &secret("pi"));
            let mut more = block(last.id());
            (more.index, more.depth) = (2, None);
            world::chain(root.bytes(), &[last.bytes(), cose::sign(&more, &secret("student")).bytes()])
        }),
        wide(
            "model",
            "a model that the token does not have",
            with_block(|block| block.models = list(vec![model("lab/other")])),
        ),
        wide(
            "model-of-block",
            "a model that the block before took away",
            second(&|block| block.models = list(vec![model("lab/wide")])),
        ),
        wide("op", "an op that the token does not have", with_block(|block| block.ops = list(vec![Op::Embeddings]))),
        wide(
            "op-of-block",
            "an op that the block before took away",
            second(&|block| block.ops = list(vec![Op::Completions])),
        ),
    ]
}

fn judged() -> Vec<Case> {
    let bad = |id, rule, note, chain, code| case(id, rule, note, chain, Err(code));
    let revoked =
        |id, state, chain| Case { state, ..bad(id, "V-2", "it stands on the house's list", chain, Code::Revoked) };
    let stale = |id, state, note| Case { state, ..bad(id, "V-1", note, usual(0), Code::StandingStale) };
    vec![
        Case {
            node: UNI_NODE,
            ..bad("another-audience", "T-1", "shown to another node", usual(0), Code::WrongAudience)
        },
        Case { now: NOW.plus(12 * HOUR_S + 60), ..bad("expired", "T-1", "now = exp + 60", usual(0), Code::Expired) },
        Case {
            now: NOW.plus(6 * HOUR_S + 60),
            ..bad("block-expired", "T-1", "the block ends before the token", usual(1), Code::Expired)
        },
        Case { now: NOW.minus(HOUR_S + 61), ..bad("not-yet", "T-1", "now = nbf - 61", usual(0), Code::NotYetValid) },
        bad(
            "not-yet-issued",
            "T-1",
            "iat = now + 61, nbf long past",
            changed(|token| token.issued_at = NOW.plus(61)),
            Code::NotYetValid,
        ),
        stale("coming-list", "coming-list", "the list is dated 61 s ahead"),
        stale("no-list", "no-list", "the node has no list of the issuer"),
        stale("old-list", "old-list", "the list is a day and a second old"),
        revoked("token-revoked", "token-revoked", usual(0)),
        revoked("child-of-revoked-token", "token-revoked", usual(3)),
        revoked("block-revoked", "block-revoked", usual(1)),
        revoked("child-of-revoked-block", "block-revoked", usual(3)),
        revoked("node-revoked", "node-revoked", usual(0)),
        revoked("organisation-revoked", "organisation-revoked", usual(0)),
        Case {
            node: UNI_NODE,
            ..bad(
                "roster-before-audience",
                "T-1",
                "a newer roster is needed, and for another node",
                changed(|token| token.terms.roster_version = 4),
                Code::RosterBehind,
            )
        },
        bad(
            "roster-before-issuer",
            "T-1",
            "a newer roster may know why the key is used so early",
            {
                let mut token = token();
                token.terms.roster_version = 4;
                minted(&token, "house issuer next")
            },
            Code::RosterBehind,
        ),
        Case {
            node: UNI_NODE,
            now: NOW.plus(DAY_S),
            ..bad(
                "signature-first",
                "T-1",
                "altered, for another node, and too late",
                world::chain(&flipped(root().bytes()), &[]),
                Code::BadSignature,
            )
        },
        Case {
            node: UNI_NODE,
            now: NOW.plus(DAY_S),
            ..bad("audience-second", "T-1", "for another node, and too late", usual(0), Code::WrongAudience)
        },
        Case {
            now: NOW.plus(DAY_S),
            state: "token-revoked",
            ..bad("time-third", "T-1", "too late, and revoked", usual(0), Code::Expired)
        },
    ]
}
