//! Bytes in and out: bounded reads, sections, checksum.

/// What is left of an input.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// Tag and payload.
    pub(super) fn section(&mut self) -> Option<([u8; 4], &'a [u8])> {
        let tag = self.array()?;
        let length = u32::from_le_bytes(self.array()?);
        let (payload, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some((tag, payload))
    }
}

/// A growing output.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn section(&mut self, tag: [u8; 4], payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("the limits of a model keep sections under MAX_BYTES");
        self.put(&tag);
        self.put(&length.to_le_bytes());
        self.put(payload);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// CRC-32 of IEEE 802.3: reflected, polynomial 0xEDB88320, as in zip and PNG.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut entry = 0_u32;
    while entry < 256 {
        let mut crc = entry;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[entry as usize] = crc;
        entry += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn sections_longer_than_the_input_are_not_read() {
        for bytes in [&b""[..], b"tag", b"tagg\x01\0\0", b"tagg\x01\0\0\0", b"tagg\xff\xff\xff\xffpayload"] {
            assert_eq!(Reader::new(bytes).section(), None);
        }
        assert_eq!(Reader::new(b"tagg\x02\0\0\0abc").section(), Some((*b"tagg", &b"ab"[..])));
    }
}
