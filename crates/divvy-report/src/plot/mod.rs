//! Inline SVG plots, drawn here: no library, no script. Each plot is drawn twice, for a wide page and for a phone, so that its
//! text keeps its size; the page shows one of them. Colours are CSS classes, so plots follow the theme.

pub(crate) mod accuracy;
mod canvas;
pub(crate) mod efficiency;
pub(crate) mod interval;
mod labels;
mod scale;
pub(crate) mod steps;
pub(crate) mod training;

#[cfg(test)]
mod tests;

/// Where a plot will be shown; decides its width in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Wide,
    Phone,
}

impl Page {
    pub(crate) const BOTH: [Self; 2] = [Self::Wide, Self::Phone];

    fn width(self) -> f64 {
        match self {
            Self::Wide => 860.0,
            Self::Phone => 350.0,
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Phone => "phone",
        }
    }
}
