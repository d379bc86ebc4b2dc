//! Canonical JSON (RFC 8785): one text for equal values. Members stand in the order of their names as UTF-16, numbers are
//! written as ECMAScript writes a double, strings with the fewest escapes. Every digest is taken over this, a call's key
//! too, so that it is written without a detour.

use std::borrow::Cow;

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::{Error, Value};

/// Integers up to here are doubles too, and are written alike.
const MOST_EXACT: u64 = 1 << 53;

/// The canonical text of a value.
///
/// # Errors
/// What cannot be JSON: a map with keys that are no strings, a double that is no number.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(2048);
    value.serialize(Writer { out: &mut out })?;
    Ok(out)
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

/// A list, closed by `end`.
struct List<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
    end: &'static [u8],
}

/// An object, closed by `end`. Members are written as they come, and put in order at the end where they are not.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// Where the first member begins.
    start: usize,
    /// Name, begin and end of each member.
    members: Vec<(Cow<'static, str>, usize, usize)>,
    end: &'static [u8],
}

impl<'o> Writer<'o> {
    fn write(self, text: &[u8]) -> Result<(), Error> {
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn list(self, end: &'static [u8]) -> List<'o> {
        self.out.push(b'[');
        List { out: self.out, empty: true, end }
    }

    fn object(self, end: &'static [u8]) -> Object<'o> {
        self.out.push(b'{');
        Object { start: self.out.len(), out: self.out, members: Vec::with_capacity(8), end }
    }

    /// The beginning of what serde calls a variant with content: an object with one member.
    fn variant(self, name: &'static str) -> Result<Self, Error> {
        self.out.push(b'{');
        serde_json::to_writer(&mut *self.out, name)?;
        self.out.push(b':');
        Ok(self)
    }
}

impl List<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        value.serialize(Writer { out: self.out })
    }

    fn close(self) -> Result<(), Error> {
        self.out.extend_from_slice(self.end);
        Ok(())
    }
}

impl Object<'_> {
    fn name(&mut self, name: Cow<'static, str>) -> Result<(), Error> {
        if !self.members.is_empty() {
            self.out.push(b',');
        }
        let begin = self.out.len();
        string(&name, self.out);
        self.out.push(b':');
        self.members.push((name, begin, begin));
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Writer { out: self.out })?;
        let end = self.out.len();
        self.members.last_mut().into_iter().for_each(|member| member.2 = end);
        Ok(())
    }

    /// Writes the members once more behind themselves, as they are sorted now, and moves these to the front.
    fn put_in_order(&mut self) {
        let unordered = self.start..self.out.len();
        for (at, &(_, begin, end)) in self.members.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_within(begin..end);
        }
        self.out.copy_within(unordered.end.., unordered.start);
        self.out.truncate(unordered.end);
    }

    fn close(mut self) -> Result<(), Error> {
        let utf16 = |name: &str| name.encode_utf16().collect::<Vec<u16>>();
        // Names of fields are ASCII, where bytes and UTF-16 have one order.
        let ascii = self.members.iter().all(|(name, ..)| name.is_ascii());
        if ascii && self.members.is_sorted_by(|a, b| a.0 <= b.0) {
            self.out.extend_from_slice(self.end);
            return Ok(());
        }
        if ascii {
            self.members.sort_by(|a, b| a.0.cmp(&b.0));
        } else {
            self.members.sort_by_cached_key(|(name, ..)| utf16(name));
        }
        self.put_in_order();
        self.out.extend_from_slice(self.end);
        Ok(())
    }
}

/// Most pieces of a text need no escapes, and many bytes together are looked at for the time of one.
fn string(value: &str, out: &mut Vec<u8>) {
    const PIECE: usize = 32;
    out.reserve(value.len() + 2);
    out.push(b'"');
    for piece in value.as_bytes().chunks(PIECE) {
        if piece.iter().fold(false, |any, byte| any | needs_escape(*byte)) {
            piece.iter().for_each(|byte| escaped(*byte, out));
        } else {
            out.extend_from_slice(piece);
        }
    }
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

fn escaped(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\t' => b't',
        b'\r' => b'r',
        0x08 => b'b',
        0x0c => b'f',
        0..b' ' => return out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        _ => return out.push(byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn double(value: f64, out: &mut Vec<u8>) -> Result<(), Error> {
    if !value.is_finite() {
        return Err(Error::custom("JSON has no infinity and no NaN"));
    }
    out.extend_from_slice(ryu_js::Buffer::new().format(value).as_bytes());
    Ok(())
}

/// A map's key as JSON writes it.
fn key_text<T: Serialize + ?Sized>(key: &T) -> Result<String, Error> {
    match serde_json::to_value(key)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err(Error::custom("a key of a JSON object is a string")),
    }
}

macro_rules! integers {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name(self, value: $kind) -> Result<(), Error> {
            if u64::try_from(value).is_ok_and(|value| value <= MOST_EXACT) {
                return serde_json::to_writer(self.out, &value);
            }
            double(value as f64, self.out)
        })*
    };
}

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'o>;
    type SerializeTuple = List<'o>;
    type SerializeTupleStruct = List<'o>;
    type SerializeTupleVariant = List<'o>;
    type SerializeMap = Object<'o>;
    type SerializeStruct = Object<'o>;
    type SerializeStructVariant = Object<'o>;

    integers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128);

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.write(if value { b"true" } else { b"false" })
    }
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        double(f64::from(value), self.out)
    }
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        double(value, self.out)
    }
    fn serialize_char(self, value: char) -> Result<(), Error> {
        serde_json::to_writer(self.out, &value)
    }
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        string(value, self.out);
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_none(self) -> Result<(), Error> {
        self.write(b"null")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        self.write(b"null")
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.write(b"null")
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let Writer { out } = self.variant(variant)?;
        value.serialize(Writer { out: &mut *out })?;
        out.push(b'}');
        Ok(())
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List<'o>, Error> {
        Ok(self.list(b"]"))
    }
    fn serialize_tuple(self, _: usize) -> Result<List<'o>, Error> {
        Ok(self.list(b"]"))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'o>, Error> {
        Ok(self.list(b"]"))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'o>, Error> {
        Ok(self.variant(variant)?.list(b"]}"))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Object<'o>, Error> {
        Ok(self.object(b"}"))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'o>, Error> {
        Ok(self.object(b"}"))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Object<'o>, Error> {
        Ok(self.variant(variant)?.object(b"}}"))
    }
}

macro_rules! lists {
    ($($kind:ident::$method:ident),*) => {
        $(impl $kind for List<'_> {
            type Ok = ();
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

lists!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! objects {
    ($($kind:ident),*) => {
        $(impl $kind for Object<'_> {
            type Ok = ();
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.name(Cow::Borrowed(name))?;
                self.value(value)
            }
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

objects!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Object<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let name = key_text(key)?;
        self.name(Cow::Owned(name))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
