//! Network drivers, IPAM, published ports, firewall (nftables, iptables) and embedded DNS.
#![forbid(unsafe_code)]
