//! Puts a name beside each point without covering another name, a marker or an interval: tries places around the point, near
//! ones first, and takes the cheapest. Greedy and deterministic.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Box2 {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Box2 {
    pub(crate) fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if width > 0.0 && height > 0.0 { width * height } else { 0.0 }
    }

    fn outside(&self, bounds: &Self) -> f64 {
        (bounds.left - self.left).max(0.0)
            + (bounds.top - self.top).max(0.0)
            + (self.right - bounds.right).max(0.0)
            + (self.bottom - bounds.bottom).max(0.0)
    }
}

/// A point and the size of the text that names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub at: (f64, f64),
    pub size: (f64, f64),
}

/// Directions in which a label may stand off its point, preferred first.
const DIRECTIONS: [(f64, f64); 8] =
    [(1.0, 0.0), (-1.0, 0.0), (0.7, -0.8), (-0.7, -0.8), (0.7, 0.8), (-0.7, 0.8), (0.0, -1.0), (0.0, 1.0)];
const DISTANCES: [f64; 8] = [10.0, 18.0, 28.0, 40.0, 54.0, 70.0, 90.0, 115.0];

/// One box a label, in order of the points.
pub(crate) fn place(wanted: &[Wanted], obstacles: &[Box2], bounds: &Box2) -> Vec<Box2> {
    let mut placed: Vec<Box2> = Vec::with_capacity(wanted.len());
    for label in wanted {
        let best = candidates(label)
            .map(|(candidate, distance)| (cost(&candidate, distance, &placed, obstacles, bounds), candidate))
            .reduce(|best, next| if next.0 < best.0 { next } else { best });
        placed.extend(best.map(|(_, candidate)| candidate));
    }
    placed
}

fn candidates(label: &Wanted) -> impl Iterator<Item = (Box2, f64)> + '_ {
    let (width, height) = label.size;
    DISTANCES.iter().flat_map(move |distance| {
        DIRECTIONS.iter().map(move |(dx, dy)| {
            let (x, y) = (label.at.0 + dx * distance, label.at.1 + dy * distance);
            let left = if *dx > 0.0 {
                x
            } else if *dx < 0.0 {
                x - width
            } else {
                x - width / 2.0
            };
            let top = y - height / 2.0;
            (Box2 { left, top, right: left + width, bottom: top + height }, *distance)
        })
    })
}

fn cost(candidate: &Box2, distance: f64, placed: &[Box2], obstacles: &[Box2], bounds: &Box2) -> f64 {
    let names: f64 = placed.iter().map(|other| candidate.overlap(other)).sum();
    let marks: f64 = obstacles.iter().map(|other| candidate.overlap(other)).sum();
    names * 50.0 + marks * 4.0 + candidate.outside(bounds) * 1e4 + distance
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Box2 = Box2 { left: 0.0, top: 0.0, right: 700.0, bottom: 400.0 };

    #[test]
    fn names_of_points_in_one_place_do_not_cover_each_other() {
        let wanted = vec![Wanted { at: (350.0, 200.0), size: (150.0, 14.0) }; 9];
        let placed = place(&wanted, &[], &BOUNDS);
        for (index, left) in placed.iter().enumerate() {
            assert!(left.outside(&BOUNDS) == 0.0);
            assert!(placed[index + 1..].iter().all(|right| left.overlap(right) == 0.0), "{placed:?}");
        }
    }

    #[test]
    fn a_name_at_the_edge_turns_inwards() {
        let placed = place(&[Wanted { at: (690.0, 200.0), size: (150.0, 14.0) }], &[], &BOUNDS);
        assert!(placed[0].right <= 690.0);
    }
}
