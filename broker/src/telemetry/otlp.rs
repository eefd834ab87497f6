//! Metrics as OpenTelemetry's protocol has them (`MetricsData`), as far as they are exposed: numbers with their attributes.
//!
//! Pure. Protocol buffers are read field by field from what was sent; what is not known is skipped, nothing is owned before
//! its length was checked against the bytes that are left, and no more points are taken than asked for.

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    /// The metric's name.
    pub(super) name: String,
    /// What it is measured of: names and values, in the order in which they were sent.
    pub(super) attributes: Vec<(String, String)>,
    /// The number.
    pub(super) value: f64,
    /// Whether it is what was added since the last time.
    pub(super) is_delta: bool,
}

/// The bytes are not what the protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no metrics in OpenTelemetry's form")]
pub(super) struct Malformed;

/// The longest name or value of an attribute that is taken, in bytes; a longer one is cut.
const TEXT_BYTES_MAX: usize = 200;

/// Attributes of one point that are taken.
const ATTRIBUTES_MAX: usize = 16;

enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Calls for each field of a message.
fn fields<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, Field<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => Field::Fixed64(*take(&mut bytes, 8)?.first_chunk().ok_or(Malformed)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            5 => {
                take(&mut bytes, 4)?;
                Field::Fixed32
            }
            _ => return Err(Malformed),
        };
        each(tag >> 3, field)?;
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Calls for each field of this number that is a message.
fn messages<'a>(
    bytes: &'a [u8],
    number: u64,
    mut each: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    fields(bytes, |found, field| match field {
        Field::Bytes(message) if found == number => each(message),
        _ => Ok(()),
    })
}

/// The points of `MetricsData`, the first `max` of them.
pub(super) fn points(bytes: &[u8], max: usize) -> Result<Vec<Point>, Malformed> {
    let mut points = Vec::new();
    // MetricsData.resource_metrics, ResourceMetrics.scope_metrics, ScopeMetrics.metrics.
    messages(bytes, 1, |resource| {
        messages(resource, 2, |scope| {
            messages(scope, 2, |metric| read_metric(metric, max, &mut points))
        })
    })?;
    Ok(points)
}

fn read_metric(bytes: &[u8], max: usize, points: &mut Vec<Point>) -> Result<(), Malformed> {
    let mut name = String::new();
    messages(bytes, 1, |text| {
        name = cut(text)?;
        Ok(())
    })?;
    // Metric.gauge and Metric.sum; both have their points first.
    for kind in [5, 7] {
        messages(bytes, kind, |series| {
            let mut is_delta = false;
            fields(series, |number, field| {
                // Sum.aggregation_temporality: 1 is delta.
                if let (2, Field::Varint(temporality)) = (number, field) {
                    is_delta = kind == 7 && temporality == 1;
                }
                Ok(())
            })?;
            messages(series, 1, |point| {
                if points.len() < max
                    && let Some((attributes, value)) = read_point(point)?
                {
                    points.push(Point {
                        name: name.clone(),
                        attributes,
                        value,
                        is_delta,
                    });
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// `NumberDataPoint`: its attributes, and its number if it has one.
#[allow(clippy::type_complexity, reason = "attributes and a number")]
fn read_point(bytes: &[u8]) -> Result<Option<(Vec<(String, String)>, f64)>, Malformed> {
    let mut attributes = Vec::new();
    let mut value = None;
    fields(bytes, |number, field| {
        match (number, field) {
            (4, Field::Fixed64(bytes)) => value = Some(f64::from_le_bytes(bytes)),
            (6, Field::Fixed64(bytes)) => value = Some(i64::from_le_bytes(bytes) as f64),
            (7, Field::Bytes(attribute)) if attributes.len() < ATTRIBUTES_MAX => {
                attributes.extend(read_attribute(attribute)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(value.map(|value| (attributes, value)))
}

/// `KeyValue` with a text, a truth or a number.
fn read_attribute(bytes: &[u8]) -> Result<Option<(String, String)>, Malformed> {
    let mut key = String::new();
    let mut value = None;
    fields(bytes, |number, field| {
        match (number, field) {
            (1, Field::Bytes(text)) => key = cut(text)?,
            (2, Field::Bytes(any)) => fields(any, |number, field| {
                match (number, field) {
                    (1, Field::Bytes(text)) => value = Some(cut(text)?),
                    (2, Field::Varint(truth)) => value = Some((truth != 0).to_string()),
                    // Two's complement.
                    (3, Field::Varint(whole)) => value = Some((whole as i64).to_string()),
                    (4, Field::Fixed64(bytes)) => {
                        value = Some(f64::from_le_bytes(bytes).to_string());
                    }
                    _ => {}
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(value.map(|value| (key, value)))
}

fn cut(bytes: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    Ok(text[..end].to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    /// One metric with one point, of kind 5 (gauge) or 7 (sum of deltas).
    pub(in crate::telemetry) fn metric(name: &str, kind: u8, value: f64) -> Vec<u8> {
        let attribute = [field(1, b"client.rack"), field(2, &field(1, b"r1"))].concat();
        let mut point = vec![4 << 3 | 1];
        point.extend_from_slice(&value.to_le_bytes());
        point.extend(field(7, &attribute));
        let mut series = field(1, &point);
        series.extend([2 << 3, 1]);
        let metric = [field(1, name.as_bytes()), field(kind, &series)].concat();
        field(1, &field(2, &field(2, &metric)))
    }

    #[test]
    fn numbers_are_read_with_their_attributes() {
        let bytes = [metric("a.b", 5, 1.5), metric("c", 7, 2.0)].concat();
        let read = points(&bytes, 10).unwrap();
        let wanted = |name: &str, value, is_delta| Point {
            name: name.into(),
            attributes: vec![("client.rack".into(), "r1".into())],
            value,
            is_delta,
        };
        assert_eq!(read, [wanted("a.b", 1.5, false), wanted("c", 2.0, true)]);
        assert_eq!(points(&bytes, 1).unwrap().len(), 1);
        assert_eq!(points(&bytes[..bytes.len() - 1], 10), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = points(&bytes, 10);
        }
    }
}
