//! A body on each priced route: nothing untabled passes, and what passes is read again as itself.
//!
//! The first byte chooses the route, the rest is the body.

use comity_gateway::reading;

pub fn target(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let paths = reading::paths();
    let path = paths[usize::from(*first) % paths.len()];
    let Some(Ok(read)) = reading::body(path, body) else { return };
    let tabled = reading::tabled(if read.renamed { "/v1/chat/completions" } else { path });
    for name in read.passed.keys() {
        assert!(tabled.contains(&name.as_str()), "{path}: {name} is in no table, and passes");
    }
    for name in &read.ignored {
        assert!(!name.contains(['\r', '\n']), "{path}: a header would break at {name:?}");
        assert!(!read.passed.contains_key(name) || read.renamed, "{path}: {name} was dropped, and passes");
    }
    // A response goes on as a chat, and what is moderated goes to nobody.
    if read.renamed || path == "/v1/moderations" {
        return;
    }
    // What goes to the upstream, given again: all of it is tabled, and none of it changes.
    let mut again = read.passed.clone();
    again.insert("model".into(), "lab/tiny".into());
    let again = serde_json::Value::Object(again).to_string();
    match reading::body(path, again.as_bytes()) {
        Some(Ok(second)) => {
            assert_eq!(second.ignored, Vec::<String>::new(), "{path}: {again}");
            assert_eq!(second.passed, read.passed, "{path}");
        }
        other => panic!("{path}: what passed is refused: {again}: {other:?}"),
    }
}
