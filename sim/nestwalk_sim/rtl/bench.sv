// The unit and, on each rising edge, one call to C++ for each of its ports. C++ sees the unit's outputs as they were before
// the edge; what it drives reaches the unit after it (nonblocking), as from any other register.
module bench;
  import bench_widths::*;

  `define AXI_MEMORY_FUNCTION(FUNCTION, WIDTH) \
  import "DPI-C" function void FUNCTION( \
    input bit arvalid, input int arid, input longint araddr, input int arlen, input int arsize, input int arburst, \
    input bit arlock, \
    input bit awvalid, input int awid, input longint awaddr, input int awlen, input int awsize, input int awburst, \
    input bit awlock, \
    input bit wvalid, input bit [WIDTH``_WDATA-1:0] wdata, input longint wstrb, input bit wlast, \
    input bit rready, input bit bready, \
    output bit arready, output bit awready, output bit wready, \
    output bit rvalid, output int rid, output bit [WIDTH``_RDATA-1:0] rdata, output int rresp, output bit rlast, \
    output bit bvalid, output int bid, output int bresp);

  // The unit's side of a port of the memory, and what C++ drives, as the foreign function returns it.
  `define AXI_MEMORY_SIGNALS(PORT, WIDTH) \
  bit PORT``_awvalid, PORT``_awready, PORT``_wvalid, PORT``_wready, PORT``_wlast, PORT``_bvalid, PORT``_bready; \
  bit PORT``_arvalid, PORT``_arready, PORT``_rvalid, PORT``_rready, PORT``_rlast, PORT``_awlock, PORT``_arlock; \
  bit [WIDTH``_AWID-1:0] PORT``_awid, PORT``_arid, PORT``_bid, PORT``_rid; \
  bit [WIDTH``_AWADDR-1:0] PORT``_awaddr, PORT``_araddr; \
  bit [7:0] PORT``_awlen, PORT``_arlen; \
  bit [2:0] PORT``_awsize, PORT``_arsize; \
  bit [1:0] PORT``_awburst, PORT``_arburst, PORT``_bresp, PORT``_rresp; \
  bit [WIDTH``_WDATA-1:0] PORT``_wdata, PORT``_rdata; \
  bit [WIDTH``_WSTRB-1:0] PORT``_wstrb; \
  bit next_``PORT``_arready, next_``PORT``_awready, next_``PORT``_wready; \
  bit next_``PORT``_rvalid, next_``PORT``_rlast, next_``PORT``_bvalid; \
  int next_``PORT``_rid, next_``PORT``_rresp, next_``PORT``_bid, next_``PORT``_bresp; \
  bit [WIDTH``_RDATA-1:0] next_``PORT``_rdata;

  `define AXI_MEMORY_CLOCK(PORT, WIDTH, FUNCTION) \
    FUNCTION( \
        PORT``_arvalid, int'(PORT``_arid), longint'(PORT``_araddr), int'(PORT``_arlen), int'(PORT``_arsize), \
        int'(PORT``_arburst), PORT``_arlock, \
        PORT``_awvalid, int'(PORT``_awid), longint'(PORT``_awaddr), int'(PORT``_awlen), int'(PORT``_awsize), \
        int'(PORT``_awburst), PORT``_awlock, \
        PORT``_wvalid, PORT``_wdata, longint'(PORT``_wstrb), PORT``_wlast, PORT``_rready, PORT``_bready, \
        next_``PORT``_arready, next_``PORT``_awready, next_``PORT``_wready, next_``PORT``_rvalid, next_``PORT``_rid, \
        next_``PORT``_rdata, next_``PORT``_rresp, next_``PORT``_rlast, next_``PORT``_bvalid, next_``PORT``_bid, \
        next_``PORT``_bresp); \
    PORT``_arready <= next_``PORT``_arready; \
    PORT``_awready <= next_``PORT``_awready; \
    PORT``_wready <= next_``PORT``_wready; \
    PORT``_rvalid <= next_``PORT``_rvalid; \
    PORT``_rid <= WIDTH``_RID'(next_``PORT``_rid); \
    PORT``_rdata <= next_``PORT``_rdata; \
    PORT``_rresp <= 2'(next_``PORT``_rresp); \
    PORT``_rlast <= next_``PORT``_rlast; \
    PORT``_bvalid <= next_``PORT``_bvalid; \
    PORT``_bid <= WIDTH``_BID'(next_``PORT``_bid); \
    PORT``_bresp <= 2'(next_``PORT``_bresp);

  `AXI_MEMORY_FUNCTION(bench_memory, MEM)
`ifdef NESTWALK_DMA
  `AXI_MEMORY_FUNCTION(bench_out, OUT)
  import "DPI-C" function void bench_dma(
    input bit arready, input bit awready, input bit wready,
    input bit rvalid, input bit [DMA_RDATA-1:0] rdata, input int rresp, input bit bvalid, input int bresp,
    output bit arvalid, output bit awvalid, output longint address, output int len,
    output int sid, output bit ssidv, output int ssid,
    output bit wvalid, output bit [DMA_WDATA-1:0] wdata, output longint wstrb, output bit wlast,
    output bit rready, output bit bready);
`else
  import "DPI-C" function void bench_core(
    input bit request_ready, input bit response_valid, input bit [RESPONSE_PAYLOAD-1:0] response,
    output bit request_valid, output bit [REQUEST_PAYLOAD-1:0] request, output bit response_ready);
`endif
  import "DPI-C" function void bench_pages(
    input bit request_ready, input bit response_valid, input bit [ATS_PAGE_RESPONSE_PAYLOAD-1:0] response,
    output bit request_valid, output bit [ATS_PAGE_REQUEST_PAYLOAD-1:0] request, output bit response_ready);
  import "DPI-C" function void bench_csr(
    input bit awready, input bit wready, input bit bvalid, input int bresp,
    input bit arready, input bit rvalid, input longint rdata, input int rresp,
    output bit awvalid, output bit wvalid, output bit bready, output bit arvalid, output bit rready,
    output int address, output longint wdata, output int wstrb);
  import "DPI-C" function void bench_step(
    input bit irq_fault, input bit irq_invalidation, input bit irq_page_request,
    output bit rst, output bit wake);

  bit clk = 0;
  initial forever #1 clk = ~clk;  // twice as fast as a clock driven by cocotb
  bit rst = 1;
  bit wake  /*verilator public_flat_rd*/ = 0;  // changes level when something that Python waits for has finished

  `AXI_MEMORY_SIGNALS(mem, MEM)

`ifdef NESTWALK_DMA
  `AXI_MEMORY_SIGNALS(out, OUT)

  bit dma_arvalid, dma_arready, dma_awvalid, dma_awready, dma_wvalid, dma_wready, dma_wlast;
  bit dma_rvalid, dma_rready, dma_bvalid, dma_bready, dma_rlast;
  bit [DMA_ARADDR-1:0] dma_address;
  bit [7:0] dma_len;
  bit [1:0] dma_rresp, dma_bresp;
  bit [DMA_WDATA-1:0] dma_wdata;
  bit [DMA_RDATA-1:0] dma_rdata;
  bit [DMA_WSTRB-1:0] dma_wstrb;
  bit [15:0] dma_mmusid;
  bit [19:0] dma_mmussid;
  bit dma_mmussidv;
  bit next_dma_arvalid, next_dma_awvalid, next_dma_wvalid, next_dma_wlast, next_dma_rready, next_dma_bready, next_dma_ssidv;
  longint next_dma_address, next_dma_wstrb;
  int next_dma_len, next_dma_sid, next_dma_ssid;
  bit [DMA_WDATA-1:0] next_dma_wdata;
`else
  bit request_valid, request_ready, response_valid, response_ready;
  bit [REQUEST_PAYLOAD-1:0] request_payload;
  bit [RESPONSE_PAYLOAD-1:0] response_payload;
  bit next_request_valid, next_response_ready;
  bit [REQUEST_PAYLOAD-1:0] next_request;
`endif

  // Not connected to a unit without an ats port.
  bit ats_page_request_valid, ats_page_request_ready, ats_page_response_valid, ats_page_response_ready;
  bit [ATS_PAGE_REQUEST_PAYLOAD-1:0] ats_page_request_payload;
  bit [ATS_PAGE_RESPONSE_PAYLOAD-1:0] ats_page_response_payload;

  bit csr_awvalid, csr_awready, csr_wvalid, csr_wready, csr_bvalid, csr_bready;
  bit csr_arvalid, csr_arready, csr_rvalid, csr_rready;
  bit [CSR_AWADDR-1:0] csr_awaddr, csr_araddr;
  bit [CSR_WDATA-1:0] csr_wdata, csr_rdata;
  bit [CSR_WSTRB-1:0] csr_wstrb;
  bit [1:0] csr_bresp, csr_rresp;

  bit irq_fault, irq_invalidation, irq_page_request;

  // What C++ drives, as the foreign functions return it.
  bit next_page_request_valid, next_page_response_ready;
  bit [ATS_PAGE_REQUEST_PAYLOAD-1:0] next_page_request;
  bit next_csr_awvalid, next_csr_wvalid, next_csr_bready, next_csr_arvalid, next_csr_rready;
  int next_csr_address, next_csr_wstrb;
  longint next_csr_wdata;
  bit next_rst, next_wake;

  always @(posedge clk) begin
    `AXI_MEMORY_CLOCK(mem, MEM, bench_memory)

`ifdef NESTWALK_DMA
    `AXI_MEMORY_CLOCK(out, OUT, bench_out)
    bench_dma(
        dma_arready, dma_awready, dma_wready, dma_rvalid, dma_rdata, int'(dma_rresp), dma_bvalid, int'(dma_bresp),
        next_dma_arvalid, next_dma_awvalid, next_dma_address, next_dma_len, next_dma_sid, next_dma_ssidv, next_dma_ssid,
        next_dma_wvalid, next_dma_wdata, next_dma_wstrb, next_dma_wlast, next_dma_rready, next_dma_bready);
    dma_arvalid <= next_dma_arvalid;
    dma_awvalid <= next_dma_awvalid;
    dma_address <= next_dma_address;
    dma_len <= 8'(next_dma_len);
    dma_mmusid <= 16'(next_dma_sid);
    dma_mmussid <= 20'(next_dma_ssid);
    dma_mmussidv <= next_dma_ssidv;
    dma_wvalid <= next_dma_wvalid;
    dma_wdata <= next_dma_wdata;
    dma_wstrb <= DMA_WSTRB'(next_dma_wstrb);
    dma_wlast <= next_dma_wlast;
    dma_rready <= next_dma_rready;
    dma_bready <= next_dma_bready;
`else
    bench_core(request_ready, response_valid, response_payload, next_request_valid, next_request, next_response_ready);
    request_valid <= next_request_valid;
    request_payload <= next_request;
    response_ready <= next_response_ready;
`endif

    bench_pages(
        ats_page_request_ready, ats_page_response_valid, ats_page_response_payload,
        next_page_request_valid, next_page_request, next_page_response_ready);
    ats_page_request_valid <= next_page_request_valid;
    ats_page_request_payload <= next_page_request;
    ats_page_response_ready <= next_page_response_ready;

    bench_csr(
        csr_awready, csr_wready, csr_bvalid, int'(csr_bresp), csr_arready, csr_rvalid, longint'(csr_rdata), int'(csr_rresp),
        next_csr_awvalid, next_csr_wvalid, next_csr_bready, next_csr_arvalid, next_csr_rready,
        next_csr_address, next_csr_wdata, next_csr_wstrb);
    csr_awvalid <= next_csr_awvalid;
    csr_wvalid <= next_csr_wvalid;
    csr_bready <= next_csr_bready;
    csr_arvalid <= next_csr_arvalid;
    csr_rready <= next_csr_rready;
    csr_awaddr <= CSR_AWADDR'(next_csr_address);
    csr_araddr <= CSR_ARADDR'(next_csr_address);
    csr_wdata <= next_csr_wdata;
    csr_wstrb <= CSR_WSTRB'(next_csr_wstrb);

    bench_step(irq_fault, irq_invalidation, irq_page_request, next_rst, next_wake);
    rst <= next_rst;
    wake <= next_wake;
  end

  nestwalk unit (
      .mem_awcache(), .mem_awprot(), .mem_awqos(), .mem_arcache(), .mem_arprot(), .mem_arqos(),
      .csr_awprot(3'b0), .csr_arprot(3'b0),
`ifdef NESTWALK_DMA
      .dma_awaddr(dma_address), .dma_araddr(dma_address), .dma_awlen(dma_len), .dma_arlen(dma_len),
      .dma_awsize(3'($clog2(DMA_WSTRB))), .dma_arsize(3'($clog2(DMA_WSTRB))), .dma_awburst(2'd1), .dma_arburst(2'd1),
      .dma_awmmusid(dma_mmusid), .dma_armmusid(dma_mmusid), .dma_awmmussid(dma_mmussid), .dma_armmussid(dma_mmussid),
      .dma_awmmussidv(dma_mmussidv), .dma_armmussidv(dma_mmussidv), .dma_awmmuatst(1'b0), .dma_armmuatst(1'b0),
      .dma_awid('0), .dma_arid('0), .dma_bid(), .dma_rid(), .dma_awuser('0), .dma_wuser('0), .dma_aruser('0),
      .dma_buser(), .dma_ruser(), .dma_awlock(1'b0), .dma_arlock(1'b0), .dma_awcache('0), .dma_arcache('0),
      .dma_awprot('0), .dma_arprot('0), .dma_awqos('0), .dma_arqos('0),
      .out_awcache(), .out_awprot(), .out_awqos(), .out_arcache(), .out_arprot(), .out_arqos(),
      .out_awuser(), .out_wuser(), .out_aruser(), .out_buser('0), .out_ruser('0),
`else
      .mark(), .draining(1'b0),
`endif
      .*);
endmodule
