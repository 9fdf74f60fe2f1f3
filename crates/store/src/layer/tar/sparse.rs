//! Sparse files: GNU's old format in header blocks, and the three pax formats.

use super::header::{Block, number};
use super::pax::{SparseKeys, decimal};
use super::{BLOCK_LEN, SPARSE_PIECES_MAX};

pub(super) type Map = Vec<(u64, u64)>;

const PIECE_LEN: usize = 24;

/// The pieces in an old GNU header, whether more blocks follow, and the real size.
pub(super) fn gnu_header(block: &Block) -> Option<(Map, bool, u64)> {
    let mut map = Map::new();
    push_pieces(&block[386..386 + 4 * PIECE_LEN], &mut map)?;
    let real_size = u64::try_from(number(&block[483..495])?).ok()?;
    Some((map, block[482] != 0, real_size))
}

/// The pieces in an extension block; says whether more follow.
pub(super) fn gnu_extension(block: &Block, map: &mut Map) -> Option<bool> {
    push_pieces(&block[..21 * PIECE_LEN], map)?;
    Some(block[504] != 0)
}

fn push_pieces(area: &[u8], map: &mut Map) -> Option<()> {
    for piece in area.chunks_exact(PIECE_LEN) {
        // An unused piece begins with NUL.
        if piece[0] == 0 || piece[12] == 0 {
            return Some(());
        }
        let offset = u64::try_from(number(&piece[..12])?).ok()?;
        let length = u64::try_from(number(&piece[12..])?).ok()?;
        if map.len() == SPARSE_PIECES_MAX {
            return None;
        }
        map.push((offset, length));
    }
    Some(())
}

/// The map of pax formats 0.0 (repeated keys) and 0.1 (one key), if the keys have one.
pub(super) fn pax_map(keys: &SparseKeys) -> Option<Option<Map>> {
    let numbers = match &keys.map {
        Some(text) if !text.is_empty() => {
            let parsed: Result<Vec<_>, _> = text.split(|b| *b == b',').map(decimal).collect();
            parsed.ok()?.into_iter().collect::<Option<Vec<u64>>>()?
        }
        Some(_) => Vec::new(),
        None if keys.pieces.is_empty() => return Some(None),
        None => keys.pieces.clone(),
    };
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > SPARSE_PIECES_MAX {
        return None;
    }
    Some(Some(
        numbers
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect(),
    ))
}

/// The map of pax format 1.0, which begins the member's data: decimal lines, padded to a block.
#[derive(Default)]
pub(super) struct LeadingMap {
    numbers: Vec<u64>,
    digits: Vec<u8>,
    expected: Option<usize>,
}

impl LeadingMap {
    /// Takes in the next block; the map when it is complete, `Err` when it is malformed.
    pub fn feed(&mut self, block: &[u8; BLOCK_LEN]) -> Result<Option<Map>, ()> {
        for byte in block {
            if *byte != b'\n' {
                if self.digits.len() == 20 {
                    return Err(());
                }
                self.digits.push(*byte);
                continue;
            }
            let value = decimal(&self.digits).ok().flatten().ok_or(())?;
            self.digits.clear();
            match self.expected {
                None if value > SPARSE_PIECES_MAX as u64 => return Err(()),
                None => self.expected = Some(value as usize * 2),
                Some(_) => self.numbers.push(value),
            }
            if self.expected == Some(self.numbers.len()) {
                return Ok(Some(
                    self.numbers
                        .chunks_exact(2)
                        .map(|pair| (pair[0], pair[1]))
                        .collect(),
                ));
            }
        }
        Ok(None)
    }
}

/// Whether pieces ascend without overlap inside `real_size`, and their lengths sum to `stored`.
pub(super) fn is_sound(map: &Map, real_size: u64, stored: u64) -> bool {
    let mut end = 0u64;
    let mut sum = 0u64;
    for (offset, length) in map {
        let Some(next) = offset.checked_add(*length) else {
            return false;
        };
        if *offset < end || next > real_size {
            return false;
        }
        end = next;
        sum += length;
    }
    sum == stored
}
