use super::*;
use proptest::prelude::*;

const KIND: MessageType = MessageType::Step;

fn piece(transfer: u32, total: u32, offset: u32, length: usize) -> Chunk {
    let first = usize::try_from(offset).expect("small");
    let data: Vec<u8> = (first..first + length).map(|index| index as u8).collect();
    Chunk {
        transfer,
        kind: KIND as u8,
        total,
        offset,
        data: data.into(),
    }
}

fn take(
    reassembly: &mut Reassembly,
    chunk: Chunk,
) -> Result<Option<(MessageType, Bytes)>, ChunkError> {
    reassembly.chunk(chunk, &DecodeLimits::default())
}

/// With transfer 1 begun: 10 of 30 bytes.
fn begun() -> Reassembly {
    let mut reassembly = Reassembly::default();
    assert_eq!(take(&mut reassembly, piece(1, 30, 0, 10)), Ok(None));
    reassembly
}

#[test]
fn transfers_that_take_turns_come_out_whole() {
    let mut reassembly = Reassembly::default();
    for (offset, length) in [(0, 1), (1, 14)] {
        for transfer in 1..=4 {
            let chunk = piece(transfer, 40, offset, length);
            assert_eq!(take(&mut reassembly, chunk), Ok(None));
        }
    }
    let whole = piece(0, 0, 0, 40).data;
    for transfer in [3, 1, 4, 2] {
        let came = take(&mut reassembly, piece(transfer, 40, 15, 25));
        assert_eq!(came, Ok(Some((KIND, whole.clone()))));
    }
    assert_eq!(reassembly.held(), 0);
}

#[test]
fn a_whole_in_one_piece_is_not_copied() {
    let chunk = piece(1, 10, 0, 10);
    let data = chunk.data.clone();
    let (_, whole) = take(&mut Reassembly::default(), chunk)
        .expect("in order")
        .expect("complete");
    assert_eq!(whole.as_ptr(), data.as_ptr());
}

#[test]
fn pieces_that_belong_nowhere() {
    let wrong_kind = Chunk {
        kind: MessageType::Open as u8,
        ..piece(1, 30, 10, 5)
    };
    let of_type = |kind| Chunk {
        kind,
        ..piece(2, 30, 0, 5)
    };
    let frame = DecodeLimits::default().frame;
    let transfer = 1;
    let cases = [
        (
            piece(0, 30, 0, 5),
            ChunkError::Order {
                expected: 2,
                got: 0,
            },
        ),
        (
            piece(3, 30, 0, 5),
            ChunkError::Order {
                expected: 2,
                got: 3,
            },
        ),
        (
            piece(1, 30, 9, 5),
            ChunkError::Offset {
                transfer,
                expected: 10,
                got: 9,
            },
        ),
        (
            piece(1, 30, 11, 5),
            ChunkError::Offset {
                transfer,
                expected: 10,
                got: 11,
            },
        ),
        (
            piece(2, 30, 1, 5),
            ChunkError::Offset {
                transfer: 2,
                expected: 0,
                got: 1,
            },
        ),
        (
            piece(1, 31, 10, 5),
            ChunkError::Total {
                transfer,
                expected: 30,
                got: 31,
            },
        ),
        (
            wrong_kind,
            ChunkError::Kind {
                transfer,
                expected: 0x87,
                got: 0x86,
            },
        ),
        (
            piece(1, 30, 10, 21),
            ChunkError::Beyond {
                transfer,
                total: 30,
                end: 31,
            },
        ),
        (
            piece(2, frame + 1, 0, 5),
            ChunkError::TooLarge {
                transfer: 2,
                kind: 0x87,
                total: frame + 1,
                limit: frame,
            },
        ),
        (
            of_type(0x8d),
            ChunkError::Type {
                transfer: 2,
                kind: 0x8d,
            },
        ),
        (
            of_type(0x8e),
            ChunkError::Type {
                transfer: 2,
                kind: 0x8e,
            },
        ),
        (
            of_type(0x80),
            ChunkError::Type {
                transfer: 2,
                kind: 0x80,
            },
        ),
        (
            of_type(0xff),
            ChunkError::Type {
                transfer: 2,
                kind: 0xff,
            },
        ),
    ];
    for (chunk, error) in cases {
        let mut reassembly = begun();
        assert_eq!(take(&mut reassembly, chunk), Err(error));
    }
}

#[test]
fn a_limited_number_is_under_way() {
    let mut reassembly = Reassembly::default();
    for transfer in 1..=5 {
        assert_eq!(take(&mut reassembly, piece(transfer, 9, 0, 1)), Ok(None));
    }
    let too_many = ChunkError::TooMany { limit: 5, got: 6 };
    assert_eq!(take(&mut reassembly, piece(6, 9, 0, 1)), Err(too_many));
    assert_eq!(reassembly.abort(2), Ok(()));
    assert_eq!(take(&mut reassembly, piece(6, 9, 0, 1)), Ok(None));
}

#[test]
fn what_is_over_does_not_go_on() {
    let over = |got, newest| ChunkError::NotUnderWay { got, newest };
    let mut reassembly = begun();
    assert_eq!(reassembly.abort(2), Err(over(2, 1)));
    assert_eq!(reassembly.abort(1), Ok(()));
    assert_eq!(reassembly.held(), 0);
    assert_eq!(reassembly.abort(1), Err(over(1, 1)));
    let on = piece(1, 30, 10, 20);
    assert_eq!(take(&mut reassembly, on.clone()), Err(over(1, 1)));
    assert!(matches!(
        take(&mut reassembly, piece(2, 5, 0, 5)),
        Ok(Some(_))
    ));
    assert_eq!(reassembly.abort(2), Err(over(2, 2)));
    assert_eq!(take(&mut reassembly, on), Err(over(1, 2)));
}

#[test]
fn a_message_of_a_later_version_is_read_over() {
    let mut reassembly = Reassembly::default();
    let later = |offset, length| Chunk {
        kind: 0xc0,
        ..piece(1, u32::MAX, offset, length)
    };
    assert_eq!(take(&mut reassembly, later(0, 1000)), Ok(None));
    assert_eq!(take(&mut reassembly, later(1000, 1000)), Ok(None));
    assert_eq!(reassembly.held(), 0);
    assert_eq!(reassembly.abort(1), Ok(()));
    for (offset, length) in [(0, 4), (4, 6)] {
        let chunk = Chunk {
            kind: 0xfe,
            ..piece(2, 10, offset, length)
        };
        assert_eq!(take(&mut reassembly, chunk), Ok(None));
    }
    assert!(reassembly.abort(2).is_err(), "it is complete");
}

#[test]
fn memory_follows_what_came() {
    let mut reassembly = Reassembly::default();
    let (total, step) = (200 << 20, Chunk::MAX);
    let mut came = 0;
    while came < 5 << 20 {
        let offset = u32::try_from(came).expect("small");
        assert_eq!(
            take(&mut reassembly, piece(1, total, offset, step)),
            Ok(None)
        );
        came += step;
        assert!((came..=2 * came).contains(&reassembly.held()), "{came}");
    }
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_bytes(
        data in prop::collection::vec(any::<u8>(), 1..2000),
        cuts in prop::collection::vec(1usize..300, 1..40),
    ) {
        let data = Bytes::from(data);
        let mut reassembly = Reassembly::default();
        let mut offset = 0;
        let mut cuts = cuts.into_iter().cycle();
        let whole = loop {
            let end = data.len().min(offset + cuts.next().expect("it cycles"));
            let chunk = Chunk {
                data: data.slice(offset..end),
                ..piece(1, data.len() as u32, offset as u32, 0)
            };
            match take(&mut reassembly, chunk) {
                Ok(None) => prop_assert!(end < data.len()),
                came => break came,
            }
            offset = end;
        };
        prop_assert_eq!(whole, Ok(Some((KIND, data))));
        prop_assert_eq!(reassembly.held(), 0);
    }

    #[test]
    fn whatever_comes_is_taken_or_refused(
        steps in prop::collection::vec((0u32..8, any::<bool>(), 0u32..4, 1usize..40), 0..100),
    ) {
        let mut reassembly = Reassembly::default();
        let mut came = 0;
        for (transfer, abort, offset, length) in steps {
            if abort {
                // The word of a refused one changes nothing.
                let _ = reassembly.abort(transfer);
                continue;
            }
            came += length;
            let _ = take(&mut reassembly, piece(transfer, 60, offset * 20, length));
            prop_assert!(reassembly.under_way.len() <= Reassembly::LIMIT);
            prop_assert!(reassembly.held() <= 2 * came);
        }
    }
}
