//! Who may depend on whom: `cargo metadata` against the table in `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, Use, read};

/// A row of the table.
struct Row {
    kind: String,
    /// `None` is `all`.
    may: Option<BTreeSet<String>>,
}

fn table() -> BTreeMap<String, Row> {
    let text = read("docs/architecture.md");
    let (_, rest) = text.split_once("<!-- arrows:begin -->").expect("the arrows table begins");
    let (table, _) = rest.split_once("<!-- arrows:end -->").expect("the arrows table ends");
    let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let mut rows = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let &[room, kind, may] = cells.as_slice() else { panic!("three cells: {line}") };
        let may = match may.trim() {
            "all" => None,
            "–" => Some(BTreeSet::new()),
            list => Some(list.split(',').map(plain).collect()),
        };
        let before = rows.insert(plain(room), Row { kind: plain(kind), may });
        assert!(before.is_none(), "{room} stands in the table twice");
    }
    rows
}

/// Members that a member names in its manifest.
fn ours<'a>(graph: &'a Graph, member: &str, used: Use) -> BTreeSet<&'a str> {
    let members: BTreeSet<&str> = graph.members.iter().map(|id| graph.packages[id].name.as_str()).collect();
    graph.direct(graph.id(member), used).into_iter().filter(|name| members.contains(name)).collect()
}

#[test]
fn every_arrow_is_in_the_table_and_every_room_has_a_row() {
    let (graph, table) = (Graph::load(), table());
    let members: BTreeSet<String> = graph.members.iter().map(|id| graph.packages[id].name.clone()).collect();
    let rooms: BTreeSet<String> = table.keys().cloned().collect();
    assert_eq!(members, rooms, "members of the workspace against rows of docs/architecture.md");
    for (room, row) in &table {
        let Some(may) = &row.may else { continue };
        for to in ours(graph, room, Use::Normal) {
            assert!(may.contains(to), "{room} depends on {to}; docs/architecture.md allows only {may:?}");
        }
        for to in may {
            assert!(rooms.contains(to), "the row of {room} names {to}, which is not a room");
        }
    }
}

#[test]
fn what_ships_has_no_planted_bug_and_no_place_for_one() {
    let graph = Graph::load();
    let ships = graph.linked_names("comity-node");
    for never in ["comity-planted", "comity-simulator"] {
        assert!(!ships.contains(never), "the binary links {never}");
        let by = named_by(graph, |name| name == never);
        assert!(by.is_subset(&BTreeSet::from(["comity-planted"])), "{never} is used by {by:?}");
    }
    let workspace: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let default = workspace["workspace"]["default-members"].as_array().expect("a list");
    assert!(default.iter().all(|member| member.as_str() != Some("tests/planted")), "a plain build builds the bugs");
    assert!(default.len() > 4, "{default:?}");
}

#[test]
fn the_table_has_no_circle() {
    let table = table();
    // Kahn: take away rooms whose arrows all point to rooms already taken; a circle is what cannot be taken.
    let mut left: BTreeSet<&String> = table.iter().filter(|(_, row)| row.may.is_some()).map(|(room, _)| room).collect();
    while let Some(room) = left.iter().copied().find(|room| {
        let may = table[*room].may.as_ref().expect("only rows with a list are left");
        may.iter().all(|to| !left.contains(to))
    }) {
        left.remove(room);
    }
    assert!(left.is_empty(), "a circle among {left:?}");
}

#[test]
fn services_and_the_sdk_never_link_to_each_other_not_even_in_tests() {
    let (graph, table) = (Graph::load(), table());
    let apart: Vec<&String> = table
        .iter()
        .filter(|(room, row)| row.kind == "service" || room.as_str() == "comity-sdk")
        .map(|(room, _)| room)
        .collect();
    assert!(apart.len() >= 4, "gateway, clearing, network and the SDK: {apart:?}");
    for room in &apart {
        let linked = graph.linked_names(room);
        let in_tests = ours(graph, room, Use::Tests);
        for other in apart.iter().filter(|other| *other != room) {
            assert!(!linked.contains(other.as_str()), "{room} links {other}");
            assert!(!in_tests.contains(other.as_str()), "tests of {room} link {other}");
        }
    }
}

#[test]
fn xtask_has_none_of_our_crates() {
    assert_eq!(ours(Graph::load(), "xtask", Use::Normal), BTreeSet::new());
    assert_eq!(ours(Graph::load(), "xtask", Use::Tests), BTreeSet::new());
}

/// Which members name a crate in their manifest, in whatever use.
fn named_by(graph: &Graph, matches: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let names = |id: &&String| {
        let package = &graph.packages[*id];
        package.arrows.keys().any(|to| matches(&graph.packages[to].name))
    };
    graph.members.iter().filter(names).map(|id| graph.packages[id].name.as_str()).collect()
}

#[test]
fn libp2p_candle_and_sql_stand_where_they_may() {
    let graph = Graph::load();
    assert_eq!(named_by(graph, |name| name.starts_with("libp2p")), BTreeSet::from(["comity-network"]), "libp2p");
    assert_eq!(named_by(graph, |name| name.starts_with("candle")), BTreeSet::from(["comity-engine"]), "candle");
    let sql = BTreeSet::from([
        "comity-access",
        "comity-clearing",
        "comity-gateway",
        "comity-ledger",
        "comity-network",
        "comity-node",
        "comity-scratch",
        "comity-tests",
    ]);
    let found = named_by(graph, |name| name.starts_with("sqlx") || name.contains("sqlite"));
    assert!(found.is_subset(&sql), "SQL stands in {found:?}, and may only in {sql:?}");
}

#[test]
fn a_room_can_be_tested_without_libp2p_and_candle() {
    let graph = Graph::load();
    for room in ["comity-wire", "comity-token", "comity-registry", "comity-ledger", "comity-guard", "comity-gateway"] {
        let linked = graph.linked_names(room);
        let heavy: Vec<&&str> =
            linked.iter().filter(|name| name.starts_with("libp2p") || name.starts_with("candle")).collect();
        assert!(heavy.is_empty(), "{room} links {heavy:?}");
    }
}
