//! Pages of a list (spec/09-http.md §2): so many items after a place, and a cursor to the place where they end.
//!
//! Places are keys of the books' own order and never numbers of lines, so that a page is the same whatever is added meanwhile.
//! A cursor is no permission: each page asks anew whether the caller may read it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::{Code, Digest};
use http::{HeaderValue, Uri, header};
use serde::Serialize;

use crate::failure::Failure;

/// Items on a page where nobody says how many.
const LIMIT: u32 = 100;
/// The most.
pub(crate) const LIMIT_MAX: u32 = 1_000;
/// The longest cursor, characters: those of ours have at most 68.
const CURSOR_MAX: usize = 128;
const QUERY_BYTES: usize = 8;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: u32,
    /// The place after which it begins, as the list's own bytes.
    pub(crate) after: Option<Vec<u8>>,
    query: [u8; QUERY_BYTES],
}

impl Page {
    /// Of the list that `query` names: all that tells it from other lists.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for a limit out of bounds, or a cursor that is of another list.
    pub(crate) fn of(query: &[&[u8]], limit: Option<u32>, cursor: Option<&str>) -> Result<Self, Failure> {
        let limit = limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Failure::invalid(format!("a page has 1 to {LIMIT_MAX} items: limit={limit}")));
        }
        let mut parts: Vec<&[u8]> = vec![b"comity/v1/page"];
        parts.extend(query);
        let digest = Digest::of_parts(&parts);
        let query = *digest.0.first_chunk().expect("a digest has 32 bytes");
        let after = cursor.map(|cursor| place(cursor, &query)).transpose()?;
        Ok(Self { limit, after, query })
    }

    /// The place as a list's own key.
    pub(crate) fn place<const N: usize>(&self) -> Result<Option<[u8; N]>, Failure> {
        self.after.as_deref().map(|bytes| bytes.try_into().map_err(|_| not_ours())).transpose()
    }

    /// The place as a number of the books.
    pub(crate) fn number(&self) -> Result<u64, Failure> {
        let number = self.place()?.map_or(0, u64::from_be_bytes);
        if i64::try_from(number).is_ok() { Ok(number) } else { Err(not_ours()) }
    }

    /// Leads to what comes after `place`.
    pub(crate) fn cursor(&self, place: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.query[..], place].concat())
    }
}

fn not_ours() -> Failure {
    Failure::invalid("the cursor is not one of this list: take `next` of its last page, or begin without one")
}

fn place(cursor: &str, query: &[u8; QUERY_BYTES]) -> Result<Vec<u8>, Failure> {
    let bytes = (cursor.len() <= CURSOR_MAX).then(|| URL_SAFE_NO_PAD.decode(cursor).ok()).flatten();
    let place = bytes.as_deref().and_then(|bytes| bytes.strip_prefix(query));
    place.map(<[u8]>::to_vec).ok_or_else(not_ours)
}

/// Items and, where they are a full page with more behind it, the cursor after the last of them. `items` may hold one more than a
/// page has: that one is how the list says that there is more.
pub(crate) fn cut<T>(page: &Page, mut items: Vec<T>, place: impl Fn(&T) -> Vec<u8>) -> (Vec<T>, Option<String>) {
    let limit = page.limit as usize;
    if items.len() <= limit {
        return (items, None);
    }
    items.truncate(limit);
    let next = items.last().map(|last| page.cursor(&place(last)));
    (items, next)
}

/// A reply with the way to the next page, in `link` too.
pub(crate) struct Paged<T> {
    pub(crate) reply: T,
    pub(crate) next: Option<String>,
    pub(crate) uri: Uri,
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let link = self.next.and_then(|next| link(&self.uri, &next));
        let mut response = Json(self.reply).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// RFC 8288, relative to where it was asked: the same query with another cursor.
fn link(uri: &Uri, next: &str) -> Option<HeaderValue> {
    let others = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut query: Vec<String> = others.filter(|pair| !pair.starts_with("cursor=")).map(str::to_owned).collect();
    query.push(format!("cursor={next}"));
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))).ok()
}

/// What a list's route may refuse, beside what its caller may not see.
pub(crate) const CODES: &[Code] = &[Code::NotFound];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_in_its_own_list_and_nowhere_else() {
        let page = |query: &[u8], cursor: Option<&str>| Page::of(&[b"/v1/statement", query], None, cursor);
        let first = page(b"proj-a", None).unwrap();
        assert_eq!((first.limit, first.number().unwrap()), (LIMIT, 0));
        let next = first.cursor(&7_u64.to_be_bytes());
        assert_eq!(page(b"proj-a", Some(&next)).unwrap().number().unwrap(), 7);
        let of_others = page(b"proj-b", Some(&next)).unwrap_err();
        assert_eq!(of_others.code(), Code::InvalidRequest, "{of_others}");
        let too_high = first.cursor(&u64::MAX.to_be_bytes());
        assert!(page(b"proj-a", Some(&too_high)).unwrap().number().is_err());
        let too_long = "A".repeat(CURSOR_MAX + 1);
        for bad in ["", "A", "!", "AAAAAAAAAAAAAAA", too_long.as_str()] {
            assert!(page(b"proj-a", Some(bad)).is_err(), "{bad}");
        }
        for (limit, is_good) in [(0, false), (1, true), (LIMIT_MAX, true), (LIMIT_MAX + 1, false)] {
            assert_eq!(Page::of(&[b"x"], Some(limit), None).is_ok(), is_good, "{limit}");
        }
    }

    #[test]
    fn a_page_ends_where_its_limit_is_and_says_where_the_next_begins() {
        let page = Page::of(&[b"x"], Some(2), None).unwrap();
        let place = |item: &u8| vec![*item];
        assert_eq!(cut(&page, vec![1, 2], place), (vec![1, 2], None));
        let (items, next) = cut(&page, vec![1, 2, 3], place);
        assert_eq!((items, next.clone()), (vec![1, 2], Some(page.cursor(&[2]))));
        let uri: Uri = "/v1/statement?limit=2&cursor=old&node=n".parse().unwrap();
        let next = next.unwrap();
        assert_eq!(
            link(&uri, &next).unwrap(),
            format!("</v1/statement?limit=2&node=n&cursor={next}>; rel=\"next\"").as_str()
        );
    }
}
