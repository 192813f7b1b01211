// What a browser with scripts does more than one without: nothing that a page needs.
"use strict";
