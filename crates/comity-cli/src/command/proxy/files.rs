//! `/v1/files`: what a batch reads and what it writes. They rest here, under the wallet's home, and at no owner.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use comity_wire::Code;
use multer::{Constraints, Multipart, SizeLimit};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::Proxied;
use crate::batch::object::File;
use crate::batch::store::{FILE_BYTES_MAX, Store, StoreError, new_id};
use crate::said::Said;

/// What a file is for here.
const PURPOSES: [&str; 2] = ["batch", "batch_output"];

#[derive(Deserialize)]
pub(super) struct Listing {
    purpose: Option<String>,
    #[serde(flatten)]
    page: Page,
}

/// OpenAI's pages: so many, after this id.
#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<String>,
}

impl Page {
    /// One page of a list, newest first.
    pub(super) fn of<T: serde::Serialize>(&self, all: Vec<T>, id: impl Fn(&T) -> &str, most: usize) -> Response {
        let from = match &self.after {
            Some(after) => all.iter().position(|entry| id(entry) == after).map_or(all.len(), |at| at + 1),
            None => 0,
        };
        let limit = self.limit.as_ref().and_then(|limit| limit.parse().ok()).unwrap_or(most).clamp(1, most);
        let data: Vec<&T> = all.iter().skip(from).take(limit).collect();
        let has_more = from + data.len() < all.len();
        let (first, last) = (data.first().map(|entry| id(entry)), data.last().map(|entry| id(entry)));
        let body = json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more});
        Json(body).into_response()
    }
}

pub(super) async fn upload(State(shared): State<Proxied>, request: Request) -> Response {
    match take(&shared, request).await {
        Ok(file) => Json(file).into_response(),
        Err(said) => said.response(),
    }
}

pub(super) async fn list(State(shared): State<Proxied>, Query(listing): Query<Listing>) -> Response {
    let files = match shared.batches.store().files() {
        Ok(files) => files,
        Err(error) => return stored(&error).response(),
    };
    let wanted = |file: &File| listing.purpose.as_ref().is_none_or(|purpose| file.purpose == *purpose);
    listing.page.of(files.into_iter().filter(wanted).collect(), |file| &file.id, 10_000)
}

pub(super) async fn one(State(shared): State<Proxied>, Path(id): Path<String>) -> Response {
    match shared.batches.store().file(&id) {
        Ok(file) => Json(file).into_response(),
        Err(error) => stored(&error).response(),
    }
}

pub(super) async fn delete(State(shared): State<Proxied>, Path(id): Path<String>) -> Response {
    let store = shared.batches.store();
    let is_read = |store: &Store| {
        let batches = store.batches()?;
        Ok::<_, StoreError>(batches.iter().any(|batch| batch.input_file_id == id && !batch.status.is_over()))
    };
    match is_read(store) {
        Ok(true) => {
            let message = "a batch that is not over reads this file: cancel it first";
            return Said::new(StatusCode::CONFLICT, "file_in_use", message).response();
        }
        Ok(false) => {}
        Err(error) => return stored(&error).response(),
    }
    match store.delete_file(&id) {
        Ok(()) => Json(json!({"id": id, "object": "file", "deleted": true})).into_response(),
        Err(error) => stored(&error).response(),
    }
}

/// The bytes as they are.
pub(super) async fn content(State(shared): State<Proxied>, Path(id): Path<String>) -> Response {
    let store = shared.batches.store();
    let file = match store.file(&id) {
        Ok(file) => file,
        Err(error) => return stored(&error).response(),
    };
    let path = store.content(&id);
    match tokio::fs::File::open(&path).await {
        Ok(opened) => {
            let mut response = Response::new(Body::from_stream(tokio_util::io::ReaderStream::new(opened)));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.bytes));
            response
        }
        Err(source) => stored(&StoreError::Io { path, source }).response(),
    }
}

pub(super) fn stored(error: &StoreError) -> Said {
    match error {
        StoreError::Unknown { .. } => Said::new(StatusCode::NOT_FOUND, Code::NotFound.as_str(), error.to_string()),
        StoreError::Full { .. } => Said::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", error.to_string()),
        StoreError::Io { source, .. } => {
            tracing::error!(%error, cause = %source, "the proxy's files");
            Said::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal.as_str(), format!("{error}: {source}"))
        }
        StoreError::Form { source, .. } => {
            Said::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal.as_str(), format!("{error}: {source}"))
        }
    }
}

async fn take(shared: &Proxied, request: Request) -> Result<File, Said> {
    let store = shared.batches.store();
    store.room().map_err(|error| stored(&error))?;
    let bad = |message: String, param| Said::bad_request(message, Some(param));
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary =
        multer::parse_boundary(kind).map_err(|_| bad("a file comes as multipart/form-data".into(), "file"))?;
    let limits = SizeLimit::new().whole_stream(FILE_BYTES_MAX + (64 << 10)).for_field("file", FILE_BYTES_MAX);
    let limits = limits.for_field("purpose", 64);
    let body = request.into_body().into_data_stream();
    let mut parts = Multipart::with_constraints(body, boundary, Constraints::new().size_limit(limits));
    let id = new_id("file-");
    let upload = Upload { store, id: id.clone(), kept: false };
    let (mut purpose, mut received) = (None, None);
    while let Some(mut part) = parts.next_field().await.map_err(|error| unread(&error))? {
        match part.name() {
            Some("purpose") => purpose = Some(part.text().await.map_err(|error| unread(&error))?),
            Some("file") if received.is_none() => {
                let name = part.file_name().unwrap_or("upload.jsonl").chars().filter(|c| !c.is_control()).take(255);
                let name: String = name.collect();
                received = Some((name, upload.write(&mut part).await?));
            }
            // Default deny: `expires_after` and what else there may be is dropped, since nothing here acts on it.
            _ => while part.chunk().await.map_err(|error| unread(&error))?.is_some() {},
        }
    }
    let purpose = purpose.ok_or_else(|| bad("'purpose' is missing".into(), "purpose"))?;
    if !PURPOSES.contains(&purpose.as_str()) {
        return Err(bad(format!("files are for batches here: purpose \"batch\", not {purpose:?}"), "purpose"));
    }
    let (filename, bytes) = received.ok_or_else(|| bad("'file' is missing".into(), "file"))?;
    let created_at = shared.client.now().seconds();
    let file = File { id, object: File::object(), bytes, created_at, filename, purpose, status: "processed".into() };
    store.keep_file(&file).map_err(|error| stored(&error))?;
    upload.keep();
    Ok(file)
}

/// Bytes that go away again where the upload does not come to its end.
struct Upload<'a> {
    store: &'a Store,
    id: String,
    kept: bool,
}

impl Upload<'_> {
    async fn write(&self, part: &mut multer::Field<'_>) -> Result<u64, Said> {
        let path = self.store.content(&self.id);
        let io = |source| stored(&StoreError::Io { path: path.clone(), source });
        let mut options = tokio::fs::OpenOptions::new();
        options.create_new(true).write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(&path).await.map_err(io)?;
        let mut bytes = 0;
        while let Some(chunk) = part.chunk().await.map_err(|error| unread(&error))? {
            bytes += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(io)?;
        }
        file.sync_all().await.map_err(io)?;
        Ok(bytes)
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.kept {
            std::fs::remove_file(self.store.content(&self.id)).ok();
        }
    }
}

fn unread(error: &multer::Error) -> Said {
    match error {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => {
            let message = format!("a file has at most {FILE_BYTES_MAX} bytes");
            Said::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge.as_str(), message)
        }
        error => Said::bad_request(format!("the upload cannot be read: {error}"), Some("file")),
    }
}
