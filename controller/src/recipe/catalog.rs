//! Built-in recipes and the user's own.

use super::check::MAX_SIZE;
use super::error::{RecipeError, nearest};
use super::file::Recipe;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Recipes that come with the program.
const BUILT_IN: [(&str, &str); 2] = [
    (
        "cosmos-transfer1",
        include_str!("../../../deploy/recipes/cosmos-transfer1.toml"),
    ),
    ("demo", include_str!("../../../deploy/recipes/demo.toml")),
];

/// Where a recipe comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program itself.
    BuiltIn,
    /// A file.
    File(PathBuf),
}

/// A recipe and where it comes from.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The recipe.
    pub recipe: Recipe,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it takes the place of a built-in recipe of the same name.
    pub overrides_built_in: bool,
}

impl Entry {
    /// The file of a built-in recipe.
    pub fn built_in_source(&self) -> Option<&'static str> {
        let found = BUILT_IN.iter().find(|(name, _)| *name == self.recipe.name);
        found
            .filter(|_| self.origin == Origin::BuiltIn)
            .map(|(_, text)| *text)
    }
}

/// Every recipe that can be named.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The recipes, sorted by name.
    pub entries: Vec<Entry>,
    /// Files of the user that cannot be used.
    pub problems: Vec<(PathBuf, RecipeError)>,
}

/// No recipe was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// There is none of this name.
    #[error("there is no recipe `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name that was probably meant.
        meant: Option<String>,
        /// Every name there is.
        known: Vec<String>,
    },
    /// It cannot be used.
    #[error(transparent)]
    Broken(#[from] RecipeError),
}

impl Catalog {
    /// Reads the built-in recipes and every `*.toml` of the user's folder, which need not exist. A broken file
    /// hides no other recipe.
    pub fn load(user_dir: &Path) -> Self {
        let mut catalog = Self::default();
        for (name, text) in BUILT_IN {
            match Recipe::parse(text, name) {
                Ok(recipe) => catalog.add(recipe, Origin::BuiltIn),
                Err(error) => catalog.problems.push((name.into(), error)),
            }
        }
        for path in files(user_dir) {
            match read(&path) {
                Ok(recipe) => catalog.add(recipe, Origin::File(path)),
                Err(error) => catalog.problems.push((path, error)),
            }
        }
        catalog
            .entries
            .sort_by(|one, other| one.recipe.name.cmp(&other.recipe.name));
        catalog
    }

    fn add(&mut self, recipe: Recipe, origin: Origin) {
        let before = self
            .entries
            .iter()
            .position(|entry| entry.recipe.name == recipe.name);
        let replaced = before.map(|index| self.entries.swap_remove(index));
        let overrides_built_in =
            replaced.is_some_and(|entry| entry.overrides_built_in || entry.origin == Origin::BuiltIn);
        self.entries.push(Entry {
            recipe,
            origin,
            overrides_built_in,
        });
    }

    /// The recipe of this name, or of this file when the text is a path (it holds a `/` or ends in `.toml`).
    ///
    /// # Errors
    /// [`FindError`]. A broken file of the user's is reported rather than passed over for a built-in recipe.
    pub fn find(&self, name_or_path: &str) -> Result<Entry, FindError> {
        if name_or_path.contains('/') || name_or_path.ends_with(".toml") {
            let path = PathBuf::from(name_or_path);
            let recipe = read(&path)?;
            return Ok(Entry {
                recipe,
                origin: Origin::File(path),
                overrides_built_in: false,
            });
        }
        let is_named = |path: &Path| path.file_stem().is_some_and(|stem| stem == name_or_path);
        if let Some((_, error)) = self.problems.iter().find(|(path, _)| is_named(path)) {
            return Err(error.clone().into());
        }
        let names = || self.entries.iter().map(|entry| entry.recipe.name.as_str());
        self.entries
            .iter()
            .find(|entry| entry.recipe.name == name_or_path)
            .cloned()
            .ok_or_else(|| FindError::Unknown {
                name: name_or_path.to_owned(),
                meant: nearest(name_or_path, names()).map(str::to_owned),
                known: names().map(str::to_owned).collect(),
            })
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Recipe, RecipeError> {
    let origin = path.display().to_string();
    let wrong = |message: String| RecipeError::of_file(&origin, message);
    let file = std::fs::File::open(path).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    let mut text = String::new();
    file.take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(wrong(format!("it is larger than {MAX_SIZE} bytes")));
    }
    Recipe::parse(&text, &origin)
}
