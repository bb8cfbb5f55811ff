//! What a body is read as on a priced route, by itself: for those who hold the tables against bytes of their own making.

use serde_json::{Map, Value};

use crate::fields;
use crate::routes::PRICED;

/// A body, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// What goes to the upstream, before limits are set.
    pub passed: Map<String, Value>,
    /// What was dropped, as `comity-ignored` names it.
    pub ignored: Vec<String>,
    /// The upstream is asked on another route than the caller asked on, in that one's names.
    pub renamed: bool,
}

/// The first path of each priced route.
pub fn paths() -> Vec<&'static str> {
    PRICED.iter().map(|route| route.paths[0]).collect()
}

/// The fields that the table has for a route.
pub fn tabled(path: &str) -> Vec<&'static str> {
    let route = PRICED.iter().find(|route| route.paths[0] == path);
    route.into_iter().flat_map(|route| route.fields).map(|(name, _)| *name).collect()
}

/// `None` where there is no such route; the message of a refusal where the body is none for it.
pub fn body(path: &str, bytes: &[u8]) -> Option<Result<Read, String>> {
    let route = PRICED.iter().find(|route| route.paths[0] == path)?;
    let only = || "lab/tiny".parse().ok();
    let asked = fields::body(bytes).and_then(|given| fields::read(route, given, only));
    Some(match asked {
        Ok(asked) => {
            let renamed = asked.upstream_op() != asked.op;
            Ok(Read { passed: asked.body, ignored: asked.ignored, renamed })
        }
        Err(refusal) => Err(refusal.to_string()),
    })
}
