//! Takes pages apart: tables, code spans, links.

/// A table, with the heading that it stands under.
#[derive(Debug)]
pub struct Table {
    pub heading: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The cells of the column that is called so.
    pub fn column(&self, name: &str) -> impl Iterator<Item = &str> {
        let at = self.head.iter().position(|head| head == name);
        self.rows.iter().filter_map(move |row| row.get(at?).map(String::as_str))
    }
}

/// The tables of a page, in order.
pub fn tables(page: &str) -> Vec<Table> {
    let (mut tables, mut heading, mut inside): (Vec<Table>, &str, bool) = (Vec::new(), "", false);
    for line in prose(page) {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
        match tables.last_mut().filter(|_| inside) {
            None => {
                tables.push(Table { heading: heading.to_owned(), head: cells, rows: Vec::new() });
            }
            Some(_) if cells.iter().all(|cell| cell.chars().all(|c| c == '-')) => {}
            Some(table) => table.rows.push(cells),
        }
        inside = true;
    }
    tables
}

/// The lines of a page that are not code.
pub fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The parts of `text` between backticks.
pub fn ticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The code spans of a page.
pub fn spans(page: &str) -> Vec<&str> {
    prose(page).flat_map(ticked).collect()
}

/// Where the links of a page lead, but for those that leave it.
pub fn links(page: &str) -> Vec<&str> {
    let ends = prose(page).flat_map(|line| line.split("](").skip(1));
    let targets = ends.filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}
