//! Reads a log's headers again, and what its markers say.

use std::ops::{ControlFlow, Range};

use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, BatchView};

use crate::error::ReadError;
use crate::files::{FileError, Wait};
use crate::producers::Arriving;
use crate::seek::Sought;
use crate::segment::Segment;
use crate::shared::{Shared, segment_at};
use crate::walk::{Placed, Walk, WalkError};

/// A marker has one record of some 20 bytes; a control batch that is larger is none.
const MARKER_BYTES_MAX: usize = 1024;

/// Whether a batch may say something of its producer's transaction.
pub(super) fn may_be_marker(header: &BatchHeader) -> bool {
    header.attributes.is_control() && header.total_len() <= MARKER_BYTES_MAX
}

/// Shows `each` batch that begins within the range, in order, until it breaks off. Waits for the disk.
pub(crate) fn replay(
    shared: &Shared,
    range: Range<Offset>,
    mut each: impl FnMut(&Segment, &Arriving) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let segments = shared.segments();
    for segment in &segments[segment_at(&segments, range.start)..] {
        let from = range.start.max(segment.base);
        if from >= range.end.min(segment.end()) {
            continue;
        }
        let file = segment.file(&shared.dir, &shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        let first = shared.find(&sought, from)?;
        let mut walk = Walk::new(
            &*file,
            first.position,
            segment.size(),
            first.header.base_offset,
            Wait::Yes,
        );
        while let Some(placed) = walk
            .next()
            .map_err(|error| shared.walk_error(segment, error))?
        {
            let base_offset = placed.header.base_offset;
            if base_offset >= range.end {
                break;
            }
            if base_offset >= range.start
                && each(segment, &arriving(shared, &sought, &placed)?).is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The batch as its producer's state sees it: of a marker, what it says.
fn arriving(shared: &Shared, sought: &Sought<'_>, placed: &Placed) -> Result<Arriving, ReadError> {
    let header = placed.header;
    let mut arriving = Arriving {
        header,
        marker: None,
    };
    if !may_be_marker(&header) {
        return Ok(arriving);
    }
    let mut bytes = vec![0; header.total_len()];
    let path = sought.segment.log_path(&shared.path);
    let read = sought
        .wait
        .read_at(sought.file, &mut bytes, placed.position)
        .map_err(FileError::of("reading", &path))?;
    let marker = BatchView::split_first(bytes.get(..read).unwrap_or_default())
        .and_then(|(batch, _)| batch.end_transaction());
    arriving.marker = marker.map_err(|error| {
        let (position, expected) = (placed.position, header.base_offset);
        let found = error.to_string();
        shared.walk_error(
            sought.segment,
            WalkError::Bad {
                position,
                expected,
                found,
            },
        )
    })?;
    Ok(arriving)
}
