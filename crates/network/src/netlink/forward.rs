//! Beside other people's firewalls: where the chain FORWARD of iptables (of its nf_tables kind) drops what no rule accepts, as a dockerd
//! leaves it, our bridges get rules that accept, at its end.
//!
//! An accept in our own table does not help there: every base chain of a hook must let a packet through. What other programs drop on
//! purpose stays dropped, because our rules come last; what our own table drops stays dropped, because it is asked too.

use super::nft::{NEWRULE, Nft, SUBSYSTEM, begin, header, number};
use super::{Batch, find, text};
use crate::error::Result;
use crate::firewall::{Action, Family, Match, Rule};

const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const DELRULE: u16 = SUBSYSTEM | 8;
const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";
/// `NFTA_CHAIN_POLICY`, `NFTA_RULE_CHAIN`, `NFTA_RULE_HANDLE`, `NFTA_RULE_USERDATA`.
const CHAIN_POLICY: u16 = 5;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_USERDATA: u16 = 7;
/// `NFTNL_UDATA_RULE_COMMENT`
const UDATA_COMMENT: u8 = 0;

impl Nft {
    /// The chain FORWARD of iptables exists in this family and drops by policy.
    pub(crate) fn forward_drops(&mut self, family: Family) -> Result<bool> {
        let mut batch = Batch::new();
        let object = format!("{family} {TABLE} {CHAIN}");
        batch.begin(
            GETCHAIN,
            0,
            &header(number(family), 0),
            "look up nf_tables chain",
            object,
        );
        batch.text(1, TABLE);
        batch.text(3, CHAIN);
        match self.0.execute(batch) {
            Ok(messages) => {
                let attributes = messages
                    .first()
                    .and_then(|m| m.body.get(4..))
                    .unwrap_or_default();
                Ok(find(attributes, CHAIN_POLICY)
                    == Some(&(libc::NF_DROP as u32).to_be_bytes()[..]))
            }
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the accepting rules, known by their `comment`, those of `bridges`; none where nothing drops.
    pub(crate) fn sync_forward(
        &mut self,
        family: Family,
        comment: &str,
        bridges: &[String],
    ) -> Result<()> {
        let old = self.forward_rules(family, comment)?;
        let wanted = if self.forward_drops(family)? {
            bridges
        } else {
            &[]
        };
        if old.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let mut batch = begin();
        for handle in &old {
            let object = format!("{family} {TABLE} {CHAIN}");
            batch.begin(
                DELRULE,
                0,
                &header(number(family), 0),
                "remove rule from",
                object,
            );
            batch.text(1, TABLE);
            batch.text(2, CHAIN);
            batch.attr(RULE_HANDLE, handle);
        }
        for bridge in wanted {
            for link in [Match::Iif(bridge.clone()), Match::Oif(bridge.clone())] {
                batch.rule(
                    family,
                    TABLE,
                    CHAIN,
                    &Rule {
                        matches: vec![link],
                        action: Action::Accept,
                    },
                );
                batch.attr(RULE_USERDATA, &userdata(comment));
            }
        }
        self.commit(batch)
    }

    /// Handles of our rules.
    fn forward_rules(&mut self, family: Family, comment: &str) -> Result<Vec<Vec<u8>>> {
        let mut batch = Batch::new();
        let object = format!("{family} {TABLE} {CHAIN}");
        batch.begin(
            GETRULE,
            libc::NLM_F_DUMP,
            &header(number(family), 0),
            "list rules of",
            object,
        );
        batch.text(1, TABLE);
        batch.text(2, CHAIN);
        let messages = match self.0.execute(batch) {
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
            other => other?,
        };
        let rules = messages
            .iter()
            .filter(|m| m.kind == NEWRULE)
            .filter_map(|m| m.body.get(4..));
        let ours = rules.filter(|rule| {
            find(rule, RULE_CHAIN).map(text).as_deref() == Some(CHAIN)
                && find(rule, RULE_USERDATA) == Some(&userdata(comment)[..])
        });
        Ok(ours
            .filter_map(|rule| find(rule, RULE_HANDLE))
            .map(<[u8]>::to_vec)
            .collect())
    }
}

/// A comment as nft(8) writes and shows it.
fn userdata(comment: &str) -> Vec<u8> {
    let mut data = vec![UDATA_COMMENT, comment.len() as u8 + 1];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}
