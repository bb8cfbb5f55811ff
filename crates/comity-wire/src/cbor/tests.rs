use super::*;

const LIMITS: Limits = Limits { bytes_max: 8192, items_max: 1024, tagged: false };

fn check(hex: &str, expected: Result<(), MalformedKind>) {
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    assert_eq!(scan(&bytes, LIMITS).map_err(|malformed| malformed.kind), expected, "{hex}");
}

#[test]
fn one_value_has_one_encoding() {
    check("a201000200", Ok(()));
    // Keys 100 and −1: bytewise order, not length first (RFC 8949 §4.2.1 against §4.2.3).
    check("a21864002000", Ok(()));
    check("a22000186400", Err(MalformedKind::KeyOrder));
    check("a201000100", Err(MalformedKind::KeyOrder));
    check("a220000100", Err(MalformedKind::KeyOrder));
    check("a1180100", Err(MalformedKind::NotShortest));
    check("bf0102ff", Err(MalformedKind::Indefinite));
    check("f93c00", Err(MalformedKind::Float));
    check("fb3ff0000000000000", Err(MalformedKind::Float));
    check("c24101", Err(MalformedKind::Tag));
    check("c101", Err(MalformedKind::Tag));
    check("d28443", Err(MalformedKind::Tag));
    check("a20102f503", Err(MalformedKind::KeyType));
    check("a1616101", Err(MalformedKind::KeyType));
    check("f6", Err(MalformedKind::Simple));
    check("f7", Err(MalformedKind::Simple));
    check("f8ff", Err(MalformedKind::Simple));
    check("61ff", Err(MalformedKind::Utf8));
    check("9b7fffffffffffffff", Err(MalformedKind::Truncated));
    check("1bffffffffffffffff", Err(MalformedKind::IntegerRange));
    check("1b7fffffffffffffff", Ok(()));
    check("3b7fffffffffffffff", Ok(()));
    check("a1010200", Err(MalformedKind::Trailing));
    check("", Err(MalformedKind::Truncated));
    check("818181818181818100", Ok(()));
    check("81818181818181818100", Err(MalformedKind::TooDeep));
}

#[test]
fn size_is_looked_at_first() {
    let limits = Limits { bytes_max: 2, items_max: 2, tagged: false };
    assert_eq!(scan(&[0xff; 3], limits).unwrap_err().kind, MalformedKind::TooLarge);
    assert_eq!(scan(&[0x82, 0, 0], Limits { bytes_max: 3, ..limits }).unwrap_err().kind, MalformedKind::TooManyItems);
}
