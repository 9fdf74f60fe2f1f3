//! Chain IDs: the identity of a layer together with all below it (image-spec `config.md`, "Layer ChainID").

use crate::digest::Digest;

/// The chain ID of the whole stack `diff_ids` (lowest first); `None` for no layers.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    Some(
        rest.iter()
            .fold(first.clone(), |parent, diff_id| join(&parent, diff_id)),
    )
}

/// The chain ID of each prefix: as many as there are layers, the last being [`chain_id`].
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            Some(parent) => join(parent, diff_id),
            None => diff_id.clone(),
        };
        chain.push(id);
    }
    chain
}

fn join(parent: &Digest, diff_id: &Digest) -> Digest {
    Digest::sha256_of(format!("{parent} {diff_id}").as_bytes())
}
