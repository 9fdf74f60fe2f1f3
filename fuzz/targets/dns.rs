//! Any packet from a container: answered, sent on or dropped. An answer is never answered, and no answer is longer than its transport bears.
#![no_main]

use hull_network::dns::names::{Decision, Names, Transport};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let names = Names::default();
    for transport in [Transport::Udp, Transport::Tcp] {
        let decision = names.decide("fuzz", packet, transport);
        if packet.len() >= 12 && packet[2] & 0x80 != 0 {
            assert_eq!(decision, Decision::Ignore);
        }
        if let Decision::Reply(answer) = decision {
            assert!(answer.len() <= usize::from(u16::MAX));
            assert_eq!(answer[..2], packet[..2]);
        }
    }
});
