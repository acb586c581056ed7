//! Training logs as TensorBoard's event files.
//!
//! An event file is a sequence of records (length, masked CRC-32C of it, bytes, masked CRC-32C of those), each the protocol
//! buffer `tensorflow.Event`. Only scalars are written, so the few fields are encoded here. Events carry no time of day: equal
//! logs give equal files, and TensorBoard's horizontal axis `STEP` shows them as they are.

use contract::records::Metric;

/// What the format's first event says.
const FILE_VERSION: &str = "brain.Event:2";

/// The name TensorBoard looks for in a folder.
pub const FILE: &str = "events.out.tfevents.0.retort";

/// An event file of a training log, one scalar a value.
pub fn events(metrics: &[Metric]) -> Vec<u8> {
    let mut file = Vec::new();
    // Event.file_version = 3
    record(&mut file, &text(3, FILE_VERSION));
    for Metric { step, values } in metrics {
        let summary: Vec<u8> = values
            .iter()
            .flat_map(|(name, value)| {
                // Summary.Value: tag = 1, simple_value = 2; Summary.value = 1
                let mut scalar = text(1, name);
                scalar.push(2 << 3 | 5);
                scalar.extend((*value as f32).to_le_bytes());
                bytes(1, &scalar)
            })
            .collect();
        // Event.step = 2, Event.summary = 5
        let mut event = vec![2 << 3];
        varint(&mut event, *step as u64);
        event.extend(bytes(5, &summary));
        record(&mut file, &event);
    }
    file
}

fn record(file: &mut Vec<u8>, event: &[u8]) {
    let length = (event.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(event);
    file.extend(masked(event).to_le_bytes());
}

/// CRC-32C, rotated and shifted so that a checksum of a checksum is not weak.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn text(field: u8, text: &str) -> Vec<u8> {
    bytes(field, text.as_bytes())
}

/// A field of wire type 2: its key, its length, its bytes.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![field << 3 | 2];
    varint(&mut encoded, content.len() as u64);
    encoded.extend(content);
    encoded
}

fn varint(encoded: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_tensorboard_writes() {
        let values = [("loss".to_owned(), 0.5)].into();
        let file = events(&[Metric { step: 300, values }]);
        let mut expected = Vec::new();
        // The first record of every event file, but for its time.
        let first = b"\x1a\x0dbrain.Event:2";
        expected.extend(15u64.to_le_bytes());
        expected.extend(masked(&15u64.to_le_bytes()).to_le_bytes());
        expected.extend(first);
        expected.extend(masked(first).to_le_bytes());
        // step 300, one scalar.
        let second = b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f";
        expected.extend(18u64.to_le_bytes());
        expected.extend(masked(&18u64.to_le_bytes()).to_le_bytes());
        expected.extend(second);
        expected.extend(masked(second).to_le_bytes());
        assert_eq!(file, expected);
    }

    #[test]
    fn checksums_are_masked_as_the_format_says() {
        // CRC-32C of "123456789" is the check value of its definition (RFC 3720, B.4 has others).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(masked(b"123456789"), 0xE306_9283u32.rotate_right(15).wrapping_add(0xA282_EAD8));
    }
}
