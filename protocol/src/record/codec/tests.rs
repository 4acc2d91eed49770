use super::*;
use proptest::prelude::*;

fn back<T: Item>(value: &T) -> Result<T, Damage> {
    let mut bytes = Vec::new();
    value.put(&mut bytes);
    let mut from = Source(&bytes);
    let value = T::take(&mut from);
    assert!(value.is_err() || from.0.is_empty(), "all of it is read");
    value
}

proptest! {
    #[test]
    fn numbers_read_back(wide: u64, narrow: u16, signed: i64, float: f64) {
        prop_assert_eq!(back(&wide), Ok(wide));
        prop_assert_eq!(back(&narrow), Ok(narrow));
        prop_assert_eq!(back(&signed), Ok(signed));
        prop_assert_eq!(back(&float).map(f64::to_bits), Ok(float.to_bits()));
    }

    #[test]
    fn bytes_read_back(bytes: Vec<u8>, zeros in 0usize..9, cut in 0usize..9) {
        let mut bytes = bytes;
        bytes.resize(bytes.len() + zeros, 0);
        prop_assert_eq!(back(&Bytes::from(bytes.clone())), Ok(Bytes::from(bytes.clone())));
        let (head, body) = bytes.split_at(cut.min(bytes.len()));
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        Bytes::from(bytes.clone()).put(&mut whole);
        put_pieces(&mut pieces, [head, body]);
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn zeros_at_the_end_cost_their_number() {
    let mut bytes = Vec::new();
    Bytes::from(vec![0; 1 << 20]).put(&mut bytes);
    assert_eq!(bytes.len(), 4);
}

#[test]
fn rubbish_is_refused_without_taking_memory_for_it() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(Vec::<u64>::take(&mut Source(&huge)).is_err());
    assert!(String::take(&mut Source(&huge)).is_err());
    let mut zeros = vec![0];
    zeros.extend_from_slice(&huge);
    assert!(Bytes::take(&mut Source(&zeros)).is_err());
    assert!(u64::take(&mut Source(&[0xff; 12])).is_err());
    assert!(u32::take(&mut Source(&huge)).is_err());
    assert!(bool::take(&mut Source(&[2])).is_err());
}
