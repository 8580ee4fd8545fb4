// What every test file begins with. Vitest runs this again for each file, and what it imports once in a process.
import "./equality.js";
import "./seed.js";
