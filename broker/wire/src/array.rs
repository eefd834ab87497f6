//! Arrays that are decoded as they are iterated.
//!
//! Every element was decoded once when the message was, so that iterating cannot fail; what is kept is a count and the
//! bytes, so that decoding allocates nothing however many elements there are.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use uuid::Uuid;

use crate::decode::{DecodeError, Reader};
use crate::message::Version;

/// What an array of a message can hold: a struct's view, or a primitive.
pub trait Element<'a>: Copy {
    /// The form that owns what it holds.
    type Owned;

    /// Whether it takes [`Self::min_size`] bytes, never more, and any bytes will do.
    const FIXED_SIZE: bool = false;

    /// The least bytes that it takes in this version.
    fn min_size(version: Version) -> usize;

    /// Decodes one. `field` is named in errors.
    fn read(
        reader: &mut Reader<'a>,
        version: Version,
        field: &'static str,
    ) -> Result<Self, DecodeError>;

    /// Copies what it borrows. That may take many times the bytes of the wire, an owned element having a size of its own
    /// however short its content: requests of clients are handled as views.
    fn into_owned(self) -> Self::Owned;
}

/// An array borrowed from a frame.
pub struct Array<'a, T> {
    bytes: &'a [u8],
    count: usize,
    version: Version,
    elements: PhantomData<fn() -> T>,
}

impl<'a, T> Array<'a, T> {
    /// `bytes` hold exactly `count` elements: they were walked.
    pub(crate) const fn walked(bytes: &'a [u8], count: usize, version: Version) -> Self {
        Self {
            bytes,
            count,
            version,
            elements: PhantomData,
        }
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a, T: Element<'a>> Array<'a, T> {
    /// The elements in their order.
    #[must_use]
    pub fn iter(&self) -> Iter<'a, T> {
        Iter {
            reader: Reader::new(self.bytes),
            left: self.count,
            version: self.version,
            elements: PhantomData,
        }
    }

    /// The elements, owned: see [`Element::into_owned`] for what that may take.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T::Owned> {
        self.iter().map(T::into_owned).collect()
    }
}

impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Self::walked(
            &[],
            0,
            Version {
                number: 0,
                flexible: false,
            },
        )
    }
}

impl<T> Clone for Array<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Array<'_, T> {}

impl<'a, T: Element<'a> + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Element<'a> + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl<'a, T: Element<'a>> IntoIterator for Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Element<'a>> IntoIterator for &Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Decodes the elements of an [`Array`] one by one.
#[derive(Clone, Debug)]
pub struct Iter<'a, T> {
    reader: Reader<'a>,
    left: usize,
    version: Version,
    elements: PhantomData<fn() -> T>,
}

impl<'a, T: Element<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let element = T::read(&mut self.reader, self.version, "array element");
        debug_assert!(element.is_ok(), "an element that was walked decodes again");
        element.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: Element<'a>> ExactSizeIterator for Iter<'a, T> {}

impl<'a> Element<'a> for &'a str {
    type Owned = String;

    fn min_size(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    fn read(
        reader: &mut Reader<'a>,
        version: Version,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        reader.string(version.flexible, field)
    }

    fn into_owned(self) -> String {
        String::from(self)
    }
}

impl<'a> Element<'a> for &'a [u8] {
    type Owned = Bytes;

    fn min_size(version: Version) -> usize {
        if version.flexible { 1 } else { 4 }
    }

    fn read(
        reader: &mut Reader<'a>,
        version: Version,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        reader.bytes(version.flexible, field)
    }

    fn into_owned(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

/// A number is an element of as many bytes as it has.
macro_rules! number_element {
    ($($number:ty, $read:ident, $size:literal;)*) => {$(
        impl<'a> Element<'a> for $number {
            type Owned = Self;

            const FIXED_SIZE: bool = true;

            fn min_size(_: Version) -> usize {
                $size
            }

            fn read(reader: &mut Reader<'a>, _: Version, field: &'static str) -> Result<Self, DecodeError> {
                reader.$read(field)
            }

            fn into_owned(self) -> Self {
                self
            }
        }
    )*};
}

number_element! {
    i8, i8, 1;
    i16, i16, 2;
    i32, i32, 4;
    i64, i64, 8;
    Uuid, uuid, 16;
}
