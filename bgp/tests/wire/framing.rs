//! Cutting messages out of a stream, and the header errors of RFC 4271 section 6.1.

use bgp::wire::{Frame, HeaderError, MessageType, Negotiated, SessionType};
use bytes::BytesMut;

use crate::support::{hex, message};

fn take(bytes: &[u8], max: usize) -> Result<Option<Frame>, HeaderError> {
    Frame::take(&mut BytesMut::from(bytes), max)
}

#[test]
fn messages_come_out_whole_however_they_come_in() {
    let stream = [message(4, &[]), message(2, &[0, 0, 0, 0]), message(4, &[])].concat();
    for size in 1..=stream.len() {
        let mut buffer = BytesMut::new();
        let mut types = Vec::new();
        for piece in stream.chunks(size) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = Frame::take(&mut buffer, 4096).unwrap() {
                types.push(frame.message_type());
            }
        }
        let expected = [
            MessageType::Keepalive,
            MessageType::Update,
            MessageType::Keepalive,
        ];
        assert_eq!(types, expected, "in pieces of {size}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn header_errors_have_their_notifications() {
    let header = |length: &str, kind: &str| hex(&format!("{} {length} {kind}", "FF".repeat(16)));
    let cases = [
        (
            "marker",
            hex(&format!("{}FE 0013 04", "FF".repeat(15))),
            "1 1",
            "",
        ),
        ("too short", header("0012", "04"), "1 2", "0012"),
        ("too long", header("1001", "02"), "1 2", "1001"),
        ("long KEEPALIVE", header("0014", "04"), "1 2", "0014"),
        ("short OPEN", header("001c", "01"), "1 2", "001c"),
        ("short UPDATE", header("0016", "02"), "1 2", "0016"),
        ("short NOTIFICATION", header("0014", "03"), "1 2", "0014"),
        ("short ROUTE-REFRESH", header("0016", "05"), "1 2", "0016"),
        ("type 0", header("0013", "00"), "1 3", "00"),
        ("type 6", header("0013", "06"), "1 3", "06"),
    ];
    for (name, bytes, code, data) in cases {
        let notification = take(&bytes, 4096).expect_err(name).notification();
        let got = format!("{} {}", notification.error.code(), notification.error.subcode());
        assert_eq!((got.as_str(), &notification.data), (code, &hex(data)), "{name}");
    }
}

#[test]
fn a_wrong_marker_is_seen_before_the_rest_arrives() {
    assert_eq!(take(&[0; 16], 4096), Err(HeaderError::NotSynchronized));
    assert_eq!(take(&[0xFF; 18], 4096), Ok(None));
}

#[test]
fn extended_messages_are_taken_only_where_negotiated() {
    let plain = Negotiated::plain(SessionType::Ebgp);
    let extended = Negotiated {
        extended_message_receive: true,
        ..plain.clone()
    };
    let long = message(2, &[0; 5000]);
    assert_eq!(
        take(&long, plain.max_receive()),
        Err(HeaderError::BadLength(5019))
    );
    assert_eq!(
        take(&long, extended.max_receive())
            .unwrap()
            .unwrap()
            .bytes()
            .len(),
        5019
    );
    let open = message(1, &[0; 5000]);
    assert_eq!(
        take(&open, extended.max_receive()),
        Err(HeaderError::BadLength(5019)),
        "OPEN stays short"
    );
}
