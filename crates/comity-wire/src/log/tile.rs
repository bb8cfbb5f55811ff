//! Tiles (C2SP `tlog-tiles`): runs of up to 256 hashes of one height, and the bundles of entries below them.
//!
//! A tile only grows at its end, so that each narrower tile is the beginning of the wider one: whoever stores the widest
//! can serve them all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::digest::Digest;
use crate::merkle;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// The height of a tile: 2⁸ hashes.
const TILE_HEIGHT: u32 = 8;
/// The highest level that a path may name.
const LEVEL_MAX: u8 = 63;
/// A bundle of 256 entries with their lengths.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (super::ENTRY_BYTES_MAX + 2);

/// Which tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    pub level: u8,
    pub index: u64,
}

/// What can be fetched below `tile/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Hashes: so many of this tile.
    Tile(TileId, u16),
    /// Entries: so many of bundle `index`.
    Entries(u64, u16),
}

/// Bytes that are no tile or no bundle of the width that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    #[error("{resource}: {bytes} bytes, where {expected} are expected")]
    Length { resource: String, bytes: usize, expected: usize },
    #[error("{resource}: entry {entry} is cut or too long")]
    Entry { resource: String, entry: u64 },
    #[error("tile {level}/{index} is needed and not there", level = .0.level, index = .0.index)]
    Missing(TileId),
}

impl TileId {
    /// How many hashes of this tile a tree of `size` leaves has; more than 0 means that it is part of the tree.
    pub fn width_at(self, size: u64) -> u16 {
        let hashes = size.checked_shr(TILE_HEIGHT * u32::from(self.level)).unwrap_or(0);
        let begin = self.index.saturating_mul(TILE_WIDTH);
        u16::try_from(hashes.saturating_sub(begin).min(TILE_WIDTH)).expect("at most 256")
    }
}

impl Resource {
    /// Its path below `tile/`, as in `0/x001/x234/067.p/8`.
    pub fn path(self) -> String {
        let (kind, index, width) = match self {
            Self::Tile(TileId { level, index }, width) => (level.to_string(), index, width),
            Self::Entries(index, width) => ("entries".to_owned(), index, width),
        };
        let mut groups = vec![format!("{:03}", index % 1000)];
        let mut rest = index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        let partial = if u64::from(width) == TILE_WIDTH { String::new() } else { format!(".p/{width}") };
        format!("{kind}/{}{partial}", groups.join("/"))
    }

    /// Reads a path; `None` where it is not the one way to write it.
    pub fn from_path(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, width.parse().ok()?),
            None => (rest, 256),
        };
        let mut index = 0_u64;
        for group in groups.split('/') {
            let digits = group.trim_start_matches('x');
            index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let resource = match kind {
            "entries" => Self::Entries(index, width),
            level => {
                Self::Tile(TileId { level: level.parse().ok().filter(|level| *level <= LEVEL_MAX)?, index }, width)
            }
        };
        (width > 0 && resource.path() == path).then_some(resource)
    }

    pub fn width(self) -> u16 {
        match self {
            Self::Tile(_, width) | Self::Entries(_, width) => width,
        }
    }

    /// Whether a tree of `size` leaves has it in this width or a wider one.
    pub fn is_within(self, size: u64) -> bool {
        let tile = match self {
            Self::Tile(tile, _) => tile,
            Self::Entries(index, _) => TileId { level: 0, index },
        };
        self.width() <= tile.width_at(size)
    }
}

/// Some tiles of a tree, each as wide as it was put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiles(BTreeMap<TileId, Vec<Digest>>);

impl Tiles {
    /// Takes the bytes of a tile: `width` hashes.
    ///
    /// # Errors
    /// [`TileError::Length`].
    pub fn insert(&mut self, tile: TileId, width: u16, bytes: &[u8]) -> Result<(), TileError> {
        let expected = usize::from(width) * 32;
        if bytes.len() != expected {
            let resource = Resource::Tile(tile, width).path();
            return Err(TileError::Length { resource, bytes: bytes.len(), expected });
        }
        let hashes = bytes.chunks_exact(32).map(|hash| Digest(hash.try_into().expect("32 bytes"))).collect();
        self.0.insert(tile, hashes);
        Ok(())
    }

    pub fn get(&self, tile: TileId) -> Option<&[Digest]> {
        self.0.get(&tile).map(Vec::as_slice)
    }

    /// The bytes of a tile, as wide as it is here.
    pub fn bytes(&self, tile: TileId) -> Vec<u8> {
        self.get(tile).unwrap_or_default().iter().flat_map(|hash| hash.0).collect()
    }

    /// The hash over the leaves of `range`, which is a subtree that RFC 6962 makes: `begin` is a multiple of the power of
    /// two at or above its length.
    ///
    /// # Errors
    /// [`TileError::Missing`], the first tile that it takes and that is not here in the width it takes.
    pub fn root(&self, range: Range<u64>) -> Result<Digest, TileError> {
        let length = range.end - range.start;
        if length == 0 {
            return Ok(merkle::empty_root());
        }
        if length.is_power_of_two() {
            let (tile, at) = place(range.start, length.trailing_zeros());
            let hashes = self.get(tile).and_then(|hashes| hashes.get(at)).ok_or(TileError::Missing(tile))?;
            return Ok(fold(hashes));
        }
        let middle = range.start + split(length);
        let (left, right) = (self.root(range.start..middle)?, self.root(middle..range.end)?);
        Ok(merkle::node(&left, &right))
    }
}

/// The tiles that [`Tiles::root`] takes for `range`.
pub fn tiles_of(range: Range<u64>) -> BTreeSet<TileId> {
    let length = range.end - range.start;
    match length {
        0 => BTreeSet::new(),
        _ if length.is_power_of_two() => [place(range.start, length.trailing_zeros()).0].into(),
        _ => {
            let middle = range.start + split(length);
            let mut all = tiles_of(range.start..middle);
            all.extend(tiles_of(middle..range.end));
            all
        }
    }
}

/// Where the hashes of the complete subtree of `height` over the leaves from `begin` stand.
fn place(begin: u64, height: u32) -> (TileId, Range<usize>) {
    let level = height / TILE_HEIGHT;
    let first = begin >> (TILE_HEIGHT * level);
    let at = usize::try_from(first % TILE_WIDTH).expect("below 256");
    let tile = TileId { level: u8::try_from(level).expect("at most 8"), index: first / TILE_WIDTH };
    (tile, at..at + (1 << (height % TILE_HEIGHT)))
}

/// The root over a power of two of hashes.
fn fold(hashes: &[Digest]) -> Digest {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| merkle::node(&pair[0], &pair[1])).collect();
    }
    level[0]
}

/// The largest power of two below `length`, which is above 1.
pub(super) const fn split(length: u64) -> u64 {
    1 << (u64::BITS - 1 - (length - 1).leading_zeros())
}

/// A tree that grows: the last tile of each level, and which tiles have changed since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growing {
    size: u64,
    tiles: Tiles,
    changed: BTreeSet<TileId>,
}

impl Growing {
    /// The tiles that a tree of `size` leaves needs in order to grow on: the partial ones at its right edge.
    pub fn edge(size: u64) -> Vec<(TileId, u16)> {
        let levels = (0_u8..8).map(|level| (level, size >> (TILE_HEIGHT * u32::from(level))));
        let partial = levels.filter(|(_, hashes)| hashes % TILE_WIDTH > 0);
        let tile = |(level, hashes): (u8, u64)| {
            let tile = TileId { level, index: hashes / TILE_WIDTH };
            (tile, tile.width_at(size))
        };
        partial.map(tile).collect()
    }

    /// Goes on from `size` with the tiles of its [`Growing::edge`].
    ///
    /// # Errors
    /// [`TileError::Missing`].
    pub fn from(size: u64, tiles: Tiles) -> Result<Self, TileError> {
        for (tile, width) in Self::edge(size) {
            if tiles.get(tile).is_none_or(|hashes| hashes.len() != usize::from(width)) {
                return Err(TileError::Missing(tile));
            }
        }
        Ok(Self { size, tiles, changed: BTreeSet::new() })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the data of a leaf.
    pub fn push(&mut self, entry: &[u8]) {
        let (mut hash, mut level, mut at) = (merkle::leaf_of(entry), 0, self.size);
        loop {
            let tile = TileId { level, index: at / TILE_WIDTH };
            let hashes = self.tiles.0.entry(tile).or_default();
            hashes.push(hash);
            self.changed.insert(tile);
            if (hashes.len() as u64) < TILE_WIDTH {
                break;
            }
            (hash, level, at) = (fold(hashes), level + 1, tile.index);
        }
        self.size += 1;
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        // The complete subtrees of the whole tree end at its right edge, and the edge is here.
        self.tiles.root(0..self.size).expect("a growing tree has its right edge")
    }

    /// The bytes of a tile of this tree, as wide as it is; empty where the tree has none such, or began behind it.
    pub fn tile(&self, tile: TileId) -> Vec<u8> {
        self.tiles.bytes(tile)
    }

    /// The tiles that were touched, each in its full present width.
    pub fn changed(&self) -> impl Iterator<Item = (TileId, Vec<u8>)> {
        self.changed.iter().map(|tile| (*tile, self.tiles.bytes(*tile)))
    }
}

/// Writes a bundle of entries.
///
/// # Panics
/// Where an entry is above [`super::ENTRY_BYTES_MAX`], which no [`super::Entry`] is.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).expect("an entry is at most ENTRY_BYTES_MAX long");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    bytes
}

/// Reads the bundle `index` of `width` entries.
///
/// # Errors
/// [`TileError`] where an entry is cut or too long, or their number is another.
pub fn unbundle(index: u64, width: u16, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let resource = || Resource::Entries(index, width).path();
    let (mut rest, mut entries) = (bytes, Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let entry = index.saturating_mul(TILE_WIDTH) + entries.len() as u64;
        if length > super::ENTRY_BYTES_MAX || behind.len() < length {
            return Err(TileError::Entry { resource: resource(), entry });
        }
        let (data, behind) = behind.split_at(length);
        entries.push(data);
        rest = behind;
    }
    if !rest.is_empty() || entries.len() != usize::from(width) {
        return Err(TileError::Length { resource: resource(), bytes: entries.len(), expected: usize::from(width) });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_and_read_in_one_way() {
        let tile = |level, index, width| Resource::Tile(TileId { level, index }, width);
        for (resource, path) in [
            (tile(0, 0, 256), "0/000"),
            (tile(0, 1_234_067, 256), "0/x001/x234/067"),
            (tile(3, 5, 17), "3/005.p/17"),
            (Resource::Entries(999, 256), "entries/999"),
            (Resource::Entries(1_000, 1), "entries/x001/000.p/1"),
        ] {
            assert_eq!(resource.path(), path);
            assert_eq!(Resource::from_path(path), Some(resource));
        }
        for other in [
            "0/0",
            "0/00",
            "00/000",
            "0/x000/001",
            "0/001/002",
            "0/x001/x002",
            "64/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "entries",
            "entries/",
            "-1/000",
            "0/+01",
            "0/x001/234/067",
            "",
            "0/000/",
            "0/x99999999999999999999999/000",
        ] {
            assert_eq!(Resource::from_path(other), None, "{other}");
        }
    }

    #[test]
    fn a_tree_of_70000_leaves_has_the_tiles_that_the_standard_says() {
        let mut tree = Growing::default();
        let mut frontier = merkle::Frontier::default();
        let mut tiles = Tiles::default();
        for at in 0..70_000_u32 {
            let digest = Digest::of(&at.to_be_bytes());
            tree.push(digest.as_bytes());
            frontier.push(&digest);
            if at % 9_999 == 0 || at == 69_999 {
                assert_eq!(tree.root(), frontier.root(), "{at}");
            }
        }
        for (tile, bytes) in tree.changed() {
            tiles.insert(tile, tile.width_at(70_000), &bytes).unwrap();
        }
        let count = |level: u8| tiles.0.keys().filter(|tile| tile.level == level).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [274, 2, 1, 0]);
        let edge: Vec<_> =
            Growing::edge(70_000).into_iter().map(|(tile, width)| (tile.level, tile.index, width)).collect();
        assert_eq!(edge, [(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
        assert_eq!(tiles.root(0..70_000).unwrap(), frontier.root());

        // It grows on from its edge alone.
        let mut few = Tiles::default();
        for (tile, width) in Growing::edge(70_000) {
            few.insert(tile, width, &tiles.bytes(tile)).unwrap();
        }
        let mut on = Growing::from(70_000, few).unwrap();
        for at in 70_000..70_300_u32 {
            let digest = Digest::of(&at.to_be_bytes());
            on.push(digest.as_bytes());
            frontier.push(&digest);
        }
        assert_eq!(on.root(), frontier.root());
        assert!(Growing::from(70_000, Tiles::default()).is_err());
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        let entries: [&[u8]; 3] = [b"one", b"", b"three"];
        let bytes = bundle(entries);
        assert_eq!(unbundle(0, 3, &bytes).unwrap(), entries);
        assert!(unbundle(0, 2, &bytes).is_err());
        assert!(unbundle(0, 3, &bytes[..bytes.len() - 1]).is_err());
        assert!(unbundle(0, 3, &[&bytes[..], &[0]].concat()).is_err());
        let long = [&u16::MAX.to_be_bytes()[..], &[0; 65_535]].concat();
        assert!(unbundle(0, 1, &long).is_err());
    }
}
