// Puppeteer's own browser download is never wanted: the test command provides Chromium itself.
module.exports = { skipDownload: true };
