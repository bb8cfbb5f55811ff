//! Where a log is read from: a folder in the form of C2SP's `tlog-tiles`, or a house's door.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use comity_http::dial::{Client, collect};
use comity_http::problem::RemoteError;
use comity_http::{Endpoint, TrustedKeys};
use comity_wire::PublicKey;
use comity_wire::log::{BUNDLE_BYTES_MAX, Checkpoint, NOTE_BYTES_MAX, Note, Resource, TILE_WIDTH, TileId};
use http::{Request, StatusCode};
use http_body_util::Full;

use super::memory::{read_maybe, write_durably};
use crate::failure::{Failure, While as _};

/// A log as somebody outside sees it.
pub enum Source {
    Folder(PathBuf),
    /// An HTTPS or QUIC door, or an operator's socket.
    Door(Client),
}

/// Which door, and whose key is to be found there.
#[derive(Debug, clap::Args)]
pub struct DoorArguments {
    /// A house's door: https://HOST:PORT
    #[arg(long, requires = "door_key", value_name = "URL")]
    pub door: Option<String>,
    /// The key behind that door, did:key:z6Mk… (`transport_key` in the house's organisation.json, or the roster)
    #[arg(long, requires = "door", value_name = "KEY")]
    pub door_key: Option<PublicKey>,
}

impl DoorArguments {
    /// # Errors
    /// [`Failure`] where the address is none.
    pub fn client(&self) -> Result<Option<Client>, Failure> {
        let (Some(door), Some(key)) = (&self.door, &self.door_key) else { return Ok(None) };
        let trusted = TrustedKeys::Exactly(vec![*key.as_bytes()]);
        Ok(Some(Client::new(Endpoint { addresses: vec![door.clone()], trusted })?))
    }
}

impl Source {
    /// The newest signed note.
    ///
    /// # Errors
    /// [`Failure`], also where there is none.
    pub async fn note(&self) -> Result<Note, Failure> {
        let bytes = self.get("checkpoint", NOTE_BYTES_MAX).await?;
        let bytes =
            bytes.ok_or_else(|| Failure::new("there is no checkpoint").hint("is it a log, and is it signed yet?"))?;
        Note::parse(&bytes).while_("the checkpoint cannot be read")
    }

    /// A tile or a bundle: where it is not there as narrow as it was asked for, the beginning of the full one.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be had; what is in it is for the caller to judge.
    pub async fn resource(&self, resource: Resource) -> Result<Vec<u8>, Failure> {
        let path = format!("tile/{}", resource.path());
        if let Some(bytes) = self.get(&path, BUNDLE_BYTES_MAX).await? {
            return Ok(bytes);
        }
        let full = u16::try_from(TILE_WIDTH).expect("256");
        let whole = match resource {
            Resource::Tile(tile, _) => Resource::Tile(tile, full),
            Resource::Entries(index, _) => Resource::Entries(index, full),
        };
        let bytes = self.get(&format!("tile/{}", whole.path()), BUNDLE_BYTES_MAX).await?;
        let bytes = bytes.ok_or_else(|| Failure::new(format!("{path} is missing")).hint("ask the house for it"))?;
        Ok(beginning(resource, &bytes))
    }

    async fn get(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(path);
                read_maybe(&path).while_(format!("cannot read {}", path.display()))
            }
            Self::Door(client) => {
                let request = Request::builder().uri(format!("/log/{path}")).body(Full::new(Bytes::new()))?;
                let response = collect(client.request(request).await?, bytes_max).await?;
                let (parts, body) = response.into_parts();
                match parts.status {
                    StatusCode::OK => Ok(Some(body.to_vec())),
                    StatusCode::NOT_FOUND => Ok(None),
                    status => Err(RemoteError::read(status.as_u16(), &parts.headers, &body).into()),
                }
            }
        }
    }

    /// Copies the whole log into a folder that any tool for such logs reads, and any web server serves. What is there already
    /// and full is not fetched again; the checkpoint comes last.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn copy(&self, folder: &Path) -> Result<Checkpoint, Failure> {
        let note = self.note().await?;
        let checkpoint = Checkpoint::parse(note.text())?;
        for resource in resources(checkpoint.size) {
            let path = folder.join("tile").join(resource.path());
            if u64::from(resource.width()) == TILE_WIDTH && path.exists() {
                continue;
            }
            put(&path, &self.resource(resource).await?)?;
        }
        put(&folder.join("checkpoint"), note.to_string().as_bytes())?;
        Ok(checkpoint)
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let doing = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("."))).while_(doing())?;
    write_durably(path, bytes).while_(doing())
}

/// The part of a full tile or bundle that `resource` is.
fn beginning(resource: Resource, bytes: &[u8]) -> Vec<u8> {
    let end = match resource {
        Resource::Tile(_, width) => usize::from(width) * 32,
        Resource::Entries(_, width) => {
            let mut end = 0;
            for _ in 0..width {
                let Some(length) = bytes.get(end..end + 2) else { break };
                end += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
            end
        }
    };
    bytes[..end.min(bytes.len())].to_vec()
}

/// Everything that a tree of `size` leaves is served as: bundles first, then tiles by level.
pub(super) fn resources(size: u64) -> impl Iterator<Item = Resource> {
    let run = move |level: u8| {
        let tiles = (0..).map(move |index| TileId { level, index });
        tiles.map(move |tile| (tile, tile.width_at(size))).take_while(|(_, width)| *width > 0)
    };
    let bundles = run(0).map(|(tile, width)| Resource::Entries(tile.index, width));
    bundles.chain((0..8).flat_map(move |level| run(level).map(|(tile, width)| Resource::Tile(tile, width))))
}

#[cfg(test)]
mod tests {
    use comity_wire::log::bundle;

    use super::*;

    #[test]
    fn a_tree_is_served_as_the_standard_says() {
        let paths: Vec<_> = resources(257).map(Resource::path).collect();
        assert_eq!(paths, ["entries/000", "entries/001.p/1", "0/000", "0/001.p/1", "1/000.p/1"]);
        assert_eq!(resources(0).count(), 0);
    }

    #[test]
    fn a_narrow_bundle_is_the_beginning_of_a_wide_one() {
        let entries: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(beginning(Resource::Entries(0, 2), &bundle(entries)), bundle([&b"one"[..], b""]));
        let tile = TileId { level: 0, index: 0 };
        assert_eq!(beginning(Resource::Tile(tile, 1), &[7; 64]), [7; 32]);
    }
}
