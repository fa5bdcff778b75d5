//! MessagePack, writing: the handful of forms that the protocol uses, each in its shortest encoding.
//!
//! **Invariant:** writing cannot fail and allocates nothing but the growth of `out`. By hand rather than with `rmp`,
//! whose writers return a `Result` for every field of the hot path that cannot fail on a `Vec`.

pub(crate) fn nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub(crate) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.push(0xc2 | u8::from(value));
}

#[inline]
pub(crate) fn unsigned(value: u64, out: &mut Vec<u8>) {
    if value < 0x80 {
        out.push(value as u8);
    } else if let Ok(value) = u8::try_from(value) {
        out.extend_from_slice(&[0xcc, value]);
    } else if let Ok(value) = u16::try_from(value) {
        let [a, b] = value.to_be_bytes();
        out.extend_from_slice(&[0xcd, a, b]);
    } else if let Ok(value) = u32::try_from(value) {
        let [a, b, c, d] = value.to_be_bytes();
        out.extend_from_slice(&[0xce, a, b, c, d]);
    } else {
        tagged_u64(0xcf, value, out);
    }
}

#[inline]
pub(crate) fn signed(value: i64, out: &mut Vec<u8>) {
    if value >= 0 {
        unsigned(value as u64, out);
    } else if value >= -32 {
        out.push(value as u8);
    } else if let Ok(value) = i8::try_from(value) {
        out.extend_from_slice(&[0xd0, value as u8]);
    } else if let Ok(value) = i16::try_from(value) {
        let [a, b] = value.to_be_bytes();
        out.extend_from_slice(&[0xd1, a, b]);
    } else if let Ok(value) = i32::try_from(value) {
        let [a, b, c, d] = value.to_be_bytes();
        out.extend_from_slice(&[0xd2, a, b, c, d]);
    } else {
        tagged_u64(0xd3, value as u64, out);
    }
}

pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    tagged_u64(0xcb, value.to_bits(), out);
}

pub(crate) fn text(value: &str, out: &mut Vec<u8>) {
    let length = value.len();
    if length < 32 {
        out.push(0xa0 | length as u8);
    } else if let Ok(length) = u8::try_from(length) {
        out.extend_from_slice(&[0xd9, length]);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(0xda);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(0xdb);
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
    out.extend_from_slice(value.as_bytes());
}

#[inline]
pub(crate) fn array(length: usize, out: &mut Vec<u8>) {
    if length < 16 {
        out.push(0x90 | length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(0xdc);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(0xdd);
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

/// The last form in one write, so that the vector's capacity is looked at once.
#[inline]
fn tagged_u64(tag: u8, value: u64, out: &mut Vec<u8>) {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&value.to_be_bytes());
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn integers_take_the_shortest_form_at_every_edge() {
        for (value, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (255, 2),
            (256, 3),
            (65_535, 3),
            (65_536, 5),
            (i64::from(u32::MAX), 5),
            (i64::from(u32::MAX) + 1, 9),
            (i64::MAX, 9),
            (-1, 1),
            (-32, 1),
            (-33, 2),
            (-128, 2),
            (-129, 3),
            (-32_768, 3),
            (-32_769, 5),
            (i64::from(i32::MIN), 5),
            (i64::from(i32::MIN) - 1, 9),
            (i64::MIN, 9),
        ] {
            let bytes = written(|out| signed(value, out));
            assert_eq!(bytes.len(), length, "{value}");
            assert_eq!(rmp_serde::from_slice::<i64>(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn lengths_take_the_right_header() {
        for length in [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let value = "x".repeat(length);
            assert_eq!(rmp_serde::from_slice::<String>(&written(|out| text(&value, out))).unwrap(), value);
            let bytes = written(|out| {
                array(length, out);
                (0..length).for_each(|_| nil(out));
            });
            assert_eq!(rmp_serde::from_slice::<Vec<()>>(&bytes).unwrap().len(), length);
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_back_by_another_reader(u in any::<u64>(), i in any::<i64>(), f in -1e300f64..1e300, b in any::<bool>()) {
            prop_assert_eq!(rmp_serde::from_slice::<u64>(&written(|out| unsigned(u, out))).unwrap(), u);
            prop_assert_eq!(rmp_serde::from_slice::<i64>(&written(|out| signed(i, out))).unwrap(), i);
            prop_assert_eq!(rmp_serde::from_slice::<f64>(&written(|out| float(f, out))).unwrap().to_bits(), f.to_bits());
            prop_assert_eq!(rmp_serde::from_slice::<bool>(&written(|out| boolean(b, out))).unwrap(), b);
        }
    }
}
