#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[test]
fn what_was_deflated_inflates_again_at_every_level() {
    let bytes: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| (n / 7).to_be_bytes())
        .collect();
    for codec in CODECS {
        for level in [None, Some(-1), Some(1), Some(9)] {
            let deflated = deflate(codec, level, &bytes).unwrap();
            assert_eq!(
                inflate(codec, &deflated, bytes.len()).unwrap(),
                bytes,
                "{codec:?}"
            );
            let too_large = inflate(codec, &deflated, bytes.len() - 1);
            assert!(
                matches!(too_large, Err(CompressionError::TooLarge { .. })),
                "{codec:?}: {too_large:?}"
            );
        }
    }
}

#[test]
fn nothing_deflates_to_something_that_is_nothing_again() {
    for codec in CODECS {
        let deflated = deflate(codec, None, &[]).unwrap();
        assert_eq!(
            inflate(codec, &deflated, 0).unwrap(),
            [] as [u8; 0],
            "{codec:?}"
        );
    }
}

#[test]
fn snappy_is_read_bare_and_in_javas_framing() {
    let bytes = b"a heron stands in the weir, and stands, and stands".repeat(2_000);
    let bare = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
    assert_eq!(
        inflate(Compression::Snappy, &bare, bytes.len()).unwrap(),
        bytes
    );
    let framed = deflate(Compression::Snappy, None, &bytes).unwrap();
    assert_eq!(&framed[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(
        inflate(Compression::Snappy, &framed, bytes.len()).unwrap(),
        bytes
    );
}

#[test]
fn trap_21_a_bomb_is_refused_without_the_memory_that_it_asks_for() {
    // Four gigabytes, says the length; five bytes follow.
    let liar = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
    assert!(inflate(Compression::Snappy, &liar, INFLATED_BYTES_MAX).is_err());
    let zeroes = vec![0; 64 << 20];
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bomb = deflate(codec, None, &zeroes).unwrap();
        assert!(bomb.len() < 1 << 20);
        let refused = inflate(codec, &bomb, 1 << 20);
        assert!(
            matches!(refused, Err(CompressionError::TooLarge { .. })),
            "{codec:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_an_error_or_bytes_within_the_bound_and_never_a_panic(
        codec in 0..5_usize,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        framed in any::<bool>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let codec = CODECS[codec];
        if framed {
            bytes = deflate(codec, None, &bytes).unwrap();
            for (at, flip) in flips {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= flip;
                }
            }
        }
        if let Ok(inflated) = inflate(codec, &bytes, 300) {
            prop_assert!(inflated.len() <= 300);
        }
    }
}
