//! A writer of small MMDB files, after <https://maxmind.github.io/MaxMind-DB/>: a binary search tree over the bits of
//! the addresses (24-bit records), 16 zero bytes, the data section, and the metadata behind a marker.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that asks for an impossible file fails"
)]

use std::net::IpAddr;

/// What the metadata stands behind.
pub const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// A network and, for each key of its record, the `iso_code` below it.
type Network<'a> = (&'a str, &'a [(&'a str, &'a str)]);

#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

/// A file with the given networks, none of which contains another.
#[must_use]
pub fn file(ip_version: u16, kind: &str, networks: &[Network<'_>]) -> Vec<u8> {
    let mut nodes = vec![[Record::Nothing; 2]];
    let mut data = Vec::new();
    for (network, record) in networks {
        insert(&mut nodes, network, data.len());
        map(&mut data, record.len());
        for (key, code) in *record {
            string(&mut data, key);
            map(&mut data, 1);
            string(&mut data, "iso_code");
            string(&mut data, code);
        }
    }
    let mut bytes: Vec<u8> =
        nodes.iter().flatten().flat_map(|record| record_bytes(*record, nodes.len())).collect();
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(MARKER);
    metadata(&mut bytes, ip_version, kind, nodes.len());
    bytes
}

fn insert(nodes: &mut Vec<[Record; 2]>, network: &str, data: usize) {
    let (address, length) = network.split_once('/').unwrap();
    let octets = match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let length: usize = length.parse().unwrap();
    let mut node = 0;
    for depth in 0..length {
        let bit = usize::from(octets[depth / 8] >> (7 - depth % 8) & 1);
        if depth + 1 == length {
            nodes[node][bit] = Record::Data(data);
        } else if let Record::Node(next) = nodes[node][bit] {
            node = next;
        } else {
            nodes.push([Record::Nothing; 2]);
            let next = nodes.len() - 1;
            nodes[node][bit] = Record::Node(next);
            node = next;
        }
    }
}

fn record_bytes(record: Record, nodes: usize) -> [u8; 3] {
    let value = match record {
        Record::Nothing => nodes,
        Record::Node(node) => node,
        Record::Data(offset) => nodes + 16 + offset,
    };
    let [0, a, b, c] = u32::try_from(value).unwrap().to_be_bytes() else { panic!("too large for 24 bits") };
    [a, b, c]
}

fn metadata(out: &mut Vec<u8>, ip_version: u16, kind: &str, nodes: usize) {
    map(out, 9);
    for (key, value) in [
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
        ("ip_version", ip_version),
        ("record_size", 24),
    ] {
        string(out, key);
        out.push(5 << 5 | 2);
        out.extend(value.to_be_bytes());
    }
    string(out, "node_count");
    out.push(6 << 5 | 4);
    out.extend(u32::try_from(nodes).unwrap().to_be_bytes());
    string(out, "build_epoch");
    out.extend([8, 9 - 7]);
    out.extend(1_700_000_000_u64.to_be_bytes());
    string(out, "database_type");
    string(out, kind);
    string(out, "languages");
    out.extend([0, 11 - 7]);
    string(out, "description");
    map(out, 0);
}

fn map(out: &mut Vec<u8>, entries: usize) {
    out.push(7 << 5 | u8::try_from(entries).unwrap());
}

/// A string of less than 29 bytes, whose length fits into the control byte.
fn string(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 29);
    out.push(2 << 5 | u8::try_from(text.len()).unwrap());
    out.extend(text.as_bytes());
}
