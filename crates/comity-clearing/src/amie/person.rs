//! What a site knows of a person: the names that packets give, and a digest by which a change is seen.

use comity_wire::Digest;
use serde_json::Value;

use super::packet::Body;

/// What packets say of a person, without the prefix of who it is.
const NAMES: [&str; 5] = ["FirstName", "LastName", "Organization", "OrgCode", "Email"];

/// A digest of what a packet says of the person whose names begin with `prefix`: `Pi`, `User`, or nothing.
pub fn told(prefix: &str, body: &Body) -> Digest {
    let said = |name: &str| body.get(&format!("{prefix}{name}")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut parts = Vec::with_capacity(2 * NAMES.len());
    for name in NAMES {
        let said = said(name);
        parts.extend([(said.len() as u64).to_be_bytes().to_vec(), said.into_bytes()]);
    }
    Digest::of_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_person_is_the_same_whoever_it_is_there() {
        let body = |value: Value| value.as_object().cloned().unwrap();
        let pi = body(json!({ "PiFirstName": "Ada", "PiLastName": "L", "GrantNumber": "A-1" }));
        let user = body(json!({ "UserFirstName": "Ada", "UserLastName": "L" }));
        assert_eq!(told("Pi", &pi), told("User", &user));
        assert_ne!(told("Pi", &pi), told("Pi", &user));
        let other = body(json!({ "FirstName": "AdaL", "LastName": "" }));
        assert_ne!(told("", &other), told("Pi", &pi), "no letter moves from one name to the next");
    }
}
