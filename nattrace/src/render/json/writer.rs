//! Values as JSON, byte for byte as serde_json writes them, but for characters that a terminal would obey. Half of a
//! replay's time was serde_json's looking at each string, and at the name of each field, byte by byte and once more for
//! these: here it is done once, eight bytes at a time, and names of fields are taken as they are.

use std::fmt::{self, Display, Write as _};

use serde::ser::{self, Serialize, Serializer};

use crate::render::escape::is_unsafe;

/// Why a value cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

impl ser::Error for Error {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Writes behind what is there.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    fn text(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            return self.0.extend_from_slice(text.as_bytes());
        }
        for c in text.chars() {
            self.char(c);
        }
    }

    fn char(&mut self, c: char) {
        let short = match c {
            '"' => b'"',
            '\\' => b'\\',
            '\u{8}' => b'b',
            '\t' => b't',
            '\n' => b'n',
            '\u{c}' => b'f',
            '\r' => b'r',
            // JSON lets DEL, C1 controls and marks that reorder text stand as they are; a terminal that shows the line would
            // obey them. Their escapes mean the same to every reader.
            c if c < ' ' || is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // A vector takes all.
                    let _ = std::io::Write::write_fmt(self.0, format_args!("\\u{unit:04x}"));
                }
                return;
            }
            c => return self.0.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        };
        self.0.extend_from_slice(&[b'\\', short]);
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// An object with one member, whose name it is, around what `open` opens.
    fn variant(&mut self, name: &'static str, open: &str) {
        self.0.push(b'{');
        self.name(name);
        self.0.extend_from_slice(open.as_bytes());
    }

    /// The name of a field: one of ours, in which nothing needs an escape.
    fn name(&mut self, name: &'static str) {
        debug_assert!(is_plain(name.as_bytes()), "{name}");
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// Whether a string's bytes are all printable ASCII that JSON takes as it is. Where bytes are left over, some are looked at
/// twice.
fn is_plain(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        return !words.iter().chain([last]).any(|word| has_special(u64::from_le_bytes(*word)));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return !has_special(u64::from(first) << 32 | u64::from(last));
    }
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

/// Whether one of eight bytes is not printable ASCII, or one that JSON escapes.
fn has_special(word: u64) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The high bit of a byte is set where it is zero, and perhaps in those above one that is.
    let zeros = |word: u64| word.wrapping_sub(EACH) & !word;
    let control = word.wrapping_sub(EACH * 0x20) & !word;
    let escaped = zeros(word ^ (EACH * u64::from(b'"'))) | zeros(word ^ (EACH * u64::from(b'\\')));
    (word | control | escaped | zeros(word ^ (EACH * 0x7f))) & (EACH * 0x80) != 0
}

/// An array or an object that is being written.
pub(super) struct Members<'a, 'b> {
    writer: &'a mut Writer<'b>,
    first: bool,
    close: &'static str,
}

impl<'a, 'b> Members<'a, 'b> {
    fn open(writer: &'a mut Writer<'b>, open: &str, close: &'static str) -> Self {
        writer.0.extend_from_slice(open.as_bytes());
        Self { writer, first: true, close }
    }

    fn next(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.writer.0.push(b',');
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.next();
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.next();
        self.writer.name(name);
        value.serialize(&mut *self.writer)
    }

    #[expect(clippy::unnecessary_wraps, reason = "what the traits ask for")]
    fn close(self) -> Result<(), Error> {
        self.writer.0.extend_from_slice(self.close.as_bytes());
        Ok(())
    }
}

/// Implements traits of serde for [`Members`]: they differ in names alone.
macro_rules! members {
    ($($kind:ident: $put:ident($($argument:ident: $type:ty),*) as $by:ident;)*) => {$(
        impl ser::$kind for Members<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $put<T: Serialize + ?Sized>(&mut self, $($argument: $type,)* value: &T) -> Result<(), Error> {
                self.$by($($argument,)* value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

members! {
    SerializeSeq: serialize_element() as element;
    SerializeTuple: serialize_element() as element;
    SerializeTupleStruct: serialize_field() as element;
    SerializeTupleVariant: serialize_field() as element;
    SerializeStruct: serialize_field(name: &'static str) as field;
    SerializeStructVariant: serialize_field(name: &'static str) as field;
}

impl ser::SerializeMap for Members<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.next();
        let at = self.writer.0.len();
        key.serialize(&mut *self.writer)?;
        if self.writer.0.get(at) == Some(&b'"') {
            Ok(())
        } else {
            Err(ser::Error::custom("a key is no string"))
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.writer.0.push(b':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

/// Implements methods of [`Serializer`] for types that need no more than a line.
macro_rules! plain {
    ($($method:ident($type:ty) = |$writer:ident, $value:pat_param| $write:expr;)*) => {$(
        fn $method(self, $value: $type) -> Result<(), Error> {
            let $writer = self;
            $write;
            Ok(())
        }
    )*};
}

impl<'a, 'b> Serializer for &'a mut Writer<'b> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Members<'a, 'b>;
    type SerializeTuple = Members<'a, 'b>;
    type SerializeTupleStruct = Members<'a, 'b>;
    type SerializeTupleVariant = Members<'a, 'b>;
    type SerializeMap = Members<'a, 'b>;
    type SerializeStruct = Members<'a, 'b>;
    type SerializeStructVariant = Members<'a, 'b>;

    plain! {
        serialize_bool(bool) = |w, value| w.0.extend_from_slice(if value { b"true" } else { b"false" });
        serialize_i8(i8) = |w, value| w.number(value);
        serialize_i16(i16) = |w, value| w.number(value);
        serialize_i32(i32) = |w, value| w.number(value);
        serialize_i64(i64) = |w, value| w.number(value);
        serialize_u8(u8) = |w, value| w.number(value);
        serialize_u16(u16) = |w, value| w.number(value);
        serialize_u32(u32) = |w, value| w.number(value);
        serialize_u64(u64) = |w, value| w.number(value);
        serialize_unit_struct(&'static str) = |w, _| w.0.extend_from_slice(b"null");
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.0, &value).map_err(ser::Error::custom)
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.0, &value).map_err(ser::Error::custom)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.0.push(b'"');
        self.text(text);
        self.0.push(b'"');
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, shown: &T) -> Result<(), Error> {
        self.0.push(b'"');
        write!(self, "{shown}").map_err(ser::Error::custom)?;
        self.0.push(b'"');
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        self.collect_seq(bytes)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Error> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(name, "");
        value.serialize(&mut *self)?;
        self.0.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'a, 'b>, Error> {
        Ok(Members::open(self, "[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'a, 'b>, Error> {
        Ok(Members::open(self, "[", "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'a, 'b>, Error> {
        Ok(Members::open(self, "[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Members<'a, 'b>, Error> {
        self.variant(name, "[");
        Ok(Members::open(self, "", "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'a, 'b>, Error> {
        Ok(Members::open(self, "{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a, 'b>, Error> {
        Ok(Members::open(self, "{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Members<'a, 'b>, Error> {
        self.variant(name, "{");
        Ok(Members::open(self, "", "}}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    fn written(value: &(impl Serialize + ?Sized)) -> String {
        let mut bytes = Vec::new();
        value.serialize(&mut Writer(&mut bytes)).expect("it can be written");
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn what_no_terminal_obeys_is_written_as_serde_json_does() {
        #[derive(Serialize)]
        enum Variant {
            Unit,
            Newtype(u8),
            Tuple(i64, Option<bool>),
            Struct { a: (), b: &'static str },
        }
        #[derive(Serialize)]
        struct All<'a> {
            numbers: (i8, u64, i64, f64),
            variants: Vec<Variant>,
            map: BTreeMap<&'a str, Option<char>>,
            nothing: [u8; 0],
        }
        let value = All {
            numbers: (-1, u64::MAX, i64::MIN, 0.1),
            variants: vec![
                Variant::Unit,
                Variant::Newtype(1),
                Variant::Tuple(-2, None),
                Variant::Struct { a: (), b: "b" },
            ],
            map: [("", None), ("a\"b", Some('\\'))].into(),
            nothing: [],
        };
        assert_eq!(written(&value), serde_json::to_string(&value).expect("JSON"));
        assert!(BTreeMap::from([(1, 2)]).serialize(&mut Writer(&mut Vec::new())).is_err());
    }

    #[test]
    fn every_character_is_escaped_wherever_it_stands() {
        let mut random = fastrand::Rng::with_seed(7);
        for c in '\0'..='\u{3000}' {
            for _ in 0..3 {
                let before = "x".repeat(random.usize(..20));
                let text = format!("{before}{c}{}", "y".repeat(random.usize(..20)));
                let json = written(&text);
                assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
                if is_unsafe(c) {
                    assert!(!json.contains(c), "{json}");
                } else {
                    assert_eq!(json, serde_json::to_string(&text).expect("JSON"));
                }
                let mut shown = Vec::new();
                (&mut Writer(&mut shown)).collect_str(&format_args!("{before}{c}")).expect("it is shown");
                assert_eq!(shown, written(&format!("{before}{c}")).as_bytes());
            }
        }
    }
}
